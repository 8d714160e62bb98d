"""Tests of tables and summaries, with captured results of `load_test/compare`."""

import json
import tempfile
import unittest
from pathlib import Path

from bench import report

CAPTURED = Path(__file__).parent / "captured"


def results() -> dict:
    captured = json.loads((CAPTURED / "results.json").read_text())
    captured["summary"] = report.summarize(captured)
    return captured


def cells(table: str, title: str) -> list[str]:
    """Finds the row of `title` in a table."""
    [row] = [line for line in table.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


class Summary(unittest.TestCase):
    def test_it_is_that_of_the_results(self):
        captured = json.loads((CAPTURED / "results.json").read_text())
        written = captured["summary"]
        # Compared as JSON, where numbers have one form.
        self.assertEqual(json.loads(json.dumps(report.summarize(captured))), written)

    def test_medians_and_ranges(self):
        self.assertEqual(report.spread([3, None, 1, 2]), {"median": 2, "min": 1, "max": 3, "samples": 3})
        self.assertEqual(report.spread([1, 2])["median"], 1.5)
        self.assertIsNone(report.spread([None]))

    def test_ratios_are_those_of_the_default_server(self):
        summary = results()["summary"]
        self.assertEqual(summary["shared"]["sqlite-2"]["ratio_to_ours"], 1)
        rates = {name: summary["shared"][name]["per_second"]["median"] for name in ("sqlite-2", "nginx")}
        self.assertEqual(summary["shared"]["nginx"]["ratio_to_ours"], rates["nginx"] / rates["sqlite-2"])

    def test_ratios_at_a_given_rate_are_of_latencies(self):
        rows = results()["summary"]["rate-2000"]
        p99 = {name: rows[name]["p99_us"]["median"] for name in ("sqlite-2", "memory-2")}
        self.assertEqual(rows["memory-2"]["ratio_to_ours"], p99["memory-2"] / p99["sqlite-2"])

    def test_kills_add_up(self):
        captured = results()
        runs = [run for run in captured["runs"] if (run["scenario"], run["contender"]) == ("shared", "memory-2")]
        killed = captured["summary"]["shared"]["memory-2"]["killed"]
        self.assertEqual(killed["times"], len(runs))
        self.assertEqual(killed["lost"], sum(run["killed"]["lost"] for run in runs))
        self.assertGreater(killed["lost"], 0)

    def test_who_failed_has_its_reason_and_no_figures(self):
        row = results()["summary"]["shared"]["sqlite-commit-each"]
        self.assertIsNone(row["per_second"])
        [error] = row["errors"]
        self.assertIn("unexpected argument '--batch-max'", error)


class Tables(unittest.TestCase):
    def test_rows(self):
        table = report.scenario_table(results(), "shared")
        ours = cells(table, "boxoffice, 2 shards")
        self.assertEqual(ours[1:5], ["synced", "9,244 [6,608-11,880]", "1.00", "8.58 / 31.11 / 47.19"])
        self.assertEqual(ours[-2:], ["none of 52,742", "passed"])
        self.assertEqual(cells(table, "boxoffice in memory, 2 shards")[-2], "**106,085 of 106,085**")
        self.assertEqual(cells(table, "boxoffice, 1 shard, a commit a request")[2], "failed")
        widths = {len(line.replace("\\|", "").split("|")) for line in table.splitlines()}
        self.assertEqual(len(widths), 1, table)

    def test_violations_are_in_the_row(self):
        captured = results()
        row = captured["summary"]["shared"]["nginx"]
        row["violations"] = ["event 1 is oversold: 101 of 100"]
        table = report.scenario_table(captured, "shared")
        self.assertEqual(cells(table, "nginx, `return`")[-1], "event 1 is oversold: 101 of 100")

    def test_the_whole_names_conditions_shards_and_failures(self):
        text = report.all_tables(results())
        for part in ("4286 us (median)", "2 runs of 1 s each", "Events of each shard, of 2: 2, 2.", "- shared, sqlite-comm"):
            self.assertIn(part, text)

    def test_peers(self):
        captured = results()
        one = {"peer": "Redis", "load": "80 clients", "durability": "appendfsync always"}
        captured["peers"] = [{**one, "per_second": rate} for rate in (1000.0, 3000.0, 2000.0)]
        captured["peers"].append({**one, "peer": "PostgreSQL", "error": "no room"})
        table = report.peers_table(captured)
        self.assertEqual(cells(table, "Redis")[-1], "2,000 [1,000-3,000]")
        self.assertEqual(cells(table, "PostgreSQL")[-1], "failed")


class Marks(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = Path(directory.name) / "README.md"

    def test_only_what_is_between_them_changes(self):
        self.file.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
        for text in ("one", "two"):
            report.replace_between_marks(self.file, text)
            self.assertEqual(self.file.read_text(), f"before\n{report.BEGIN}\n\n{text}\n\n{report.END}\nafter\n")

    def test_a_file_without_them_is_left_alone(self):
        for content in ("nothing", f"{report.END}\n{report.BEGIN}\n", f"{report.BEGIN}\n" * 2 + report.END):
            self.file.write_text(content)
            with self.assertRaises(ValueError):
                report.replace_between_marks(self.file, "text")
            self.assertEqual(self.file.read_text(), content)


if __name__ == "__main__":
    unittest.main()
