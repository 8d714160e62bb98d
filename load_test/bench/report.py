"""Writes the results: results.json, the tables of the two READMEs, and charts."""

from __future__ import annotations

import json
import os
import shutil
import statistics
from pathlib import Path
from typing import Callable, Iterable

from .contenders import NOT_DURABLE, ROOT

README = ROOT / "README.md"
LOAD_TEST_README = ROOT / "load_test" / "README.md"
BEGIN = "<!-- made by load_test/compare: begin -->"
END = "<!-- made by load_test/compare: end -->"

# The headings of contenders in charts.
KINDS = {"ours": "boxoffice", "phase": "phases of the original", "ceiling": "ceilings: a constant answer"}

# The maximum length of an error in a table; the results have the whole text.
FAILURE_MAX = 400

# The directory of charts, relative to the results and to the tables of all scenarios.
CHARTS = "charts/compare"

# The maximum ratio of the longest to the shortest bar for a linear axis.
LOGARITHMIC_FROM = 15

# The scenario shown in the main README.md.
MAIN_SCENARIO = "pinned"


def write_all(results: dict, out: Path, publish: bool) -> None:
    """Writes `out` with the summary, and the tables into the READMEs if `publish`, else next to `out`."""
    results["summary"] = summarize(results)
    write_json(results, out)
    tables = all_tables(results).replace(f"{ROOT}/", "")
    charts = out.parent / CHARTS
    write_charts(results, charts)
    if publish:
        replace_between_marks(README, short_table(results))
        replace_between_marks(LOAD_TEST_README, tables)
    else:
        out.with_suffix(".md").write_text(tables + "\n")
        print(f"\n{tables}\n{out.with_suffix('.md')}")
    print(f"{out}\n{charts}")


def write_charts(results: dict, directory: Path) -> None:
    """Draws a chart for each scenario: requests per second, or the 99th percentile if the rate is constant."""
    # Imported here, because only charts need matplotlib.
    from . import charts

    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for scenario, about in results["scenarios"].items():
        name = compared_figure(about)
        unit, scale = {"per_second": ("requests a second", 1), "p99_us": ("99th percentile, ms", 1e-3)}[name]
        groups = []
        for kind, heading in KINDS.items():
            bars = [
                charts.Bar(
                    results["contenders"][contender]["title"],
                    charts.Spread(*(row[name][key] * scale for key in ("median", "min", "max"))),
                )
                for contender, row in results["summary"][scenario].items()
                if results["contenders"][contender]["kind"] == kind and row[name]
            ]
            groups += [charts.Group(heading, bars)] if bars else []
        if not is_charted(results, scenario):
            continue
        medians = [bar.spread.median for group in groups for bar in group.bars]
        charts.bars(
            directory / f"{scenario}.svg",
            about["title"],
            unit,
            groups,
            log=min(medians) > 0 and max(medians) / min(medians) > LOGARITHMIC_FROM,
        )


def is_charted(results: dict, scenario: str) -> bool:
    compared = compared_figure(results["scenarios"][scenario])
    return any(row[compared] for row in results["summary"][scenario].values())


def write_json(results: dict, out: Path) -> None:
    """Writes a file atomically, without the path of this checkout."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.new")
    temporary.write_text(json.dumps(results, indent=1).replace(f"{ROOT}/", "") + "\n")
    os.replace(temporary, out)


def summarize(results: dict) -> dict:
    """Summarizes each scenario and contender: the spread of each figure, the ratio to boxoffice, and the proofs."""
    summary: dict[str, dict] = {}
    for scenario, about in results["scenarios"].items():
        rows = {}
        for name in results["contenders"]:
            runs = [run for run in results["runs"] if (run["scenario"], run["contender"]) == (scenario, name)]
            if runs:
                rows[name] = summarize_runs(runs)
        compared = compared_figure(about)
        reference = rows.get(about["reference"], {}).get(compared)
        for row in rows.values():
            if reference and row[compared]:
                row["ratio_to_ours"] = row[compared]["median"] / reference["median"]
        summary[scenario] = rows
    return summary


def compared_figure(about: dict) -> str:
    """The figure for ratios and charts of a scenario: latency if the rate is constant, else throughput."""
    return "per_second" if about["per_second"] is None else "p99_us"


FIGURES: dict[str, Callable[[dict], float | None]] = {
    "per_second": lambda run: run["load"]["per_second"],
    "p50_us": lambda run: run["load"]["latency_us"].get("p50"),
    "p99_us": lambda run: run["load"]["latency_us"].get("p99"),
    "p99_9_us": lambda run: run["load"]["latency_us"].get("p99_9"),
    "server_cpu_us_per_request": lambda run: run["server_cpu_us_per_request"],
    "server_memory_bytes": lambda run: run["server_memory_bytes"],
    "client_cores": lambda run: run["client_cores"],
    "restart_seconds": lambda run: run["killed"]["restart_seconds"] if run["killed"] else None,
}


def summarize_runs(runs: list[dict]) -> dict:
    good = [run for run in runs if "error" not in run]
    killed = [run["killed"] for run in good if run["killed"]]
    return {
        **{name: spread(map(figure, good)) for name, figure in FIGURES.items()},
        "killed": {
            "times": len(killed),
            "acknowledged": sum(one["acknowledged"] for one in killed),
            "lost": sum(one["lost"] for one in killed),
        }
        if killed
        else None,
        "violations": sorted({text for run in good for text in run["violations"]}),
        "errors": sorted({run["error"] for run in runs if "error" in run}),
    }


def spread(samples: Iterable[float | None]) -> dict | None:
    known = [sample for sample in samples if sample is not None]
    if not known:
        return None
    return {"median": statistics.median(known), "min": min(known), "max": max(known), "samples": len(known)}


def line(sample: dict) -> str:
    """Formats a run as one line of progress."""
    p99 = sample["load"]["latency_us"].get("p99")
    parts = [f"{sample['load']['per_second']:9,.0f}/s"]
    parts.append(f"p99 {p99 / 1000:7.2f} ms" if p99 is not None else " " * 14)
    parts.append(f"{sample['server_cpu_us_per_request']:6.1f} us CPU")
    parts.append(f"{sample['server_memory_bytes'] / 2**20:5.0f} MiB")
    if sample["killed"]:
        killed = sample["killed"]
        parts.append(f"killed: {killed['lost']:,} of {killed['acknowledged']:,} lost")
    parts += [f"NOT PROVED: {text}" for text in sample["violations"]]
    return "  ".join(parts)


HEADINGS = (
    "contender",
    "a 201 is",
    "requests/s",
    "of ours",
    "p50 / p99 / p99.9 ms",
    "server CPU us a request",
    "memory MiB",
    "client cores",
    "lost by `kill -9`",
    "checks",
)


def all_tables(results: dict) -> str:
    parts = [conditions(results)]
    for name, about in results["scenarios"].items():
        parts.append(f"### {about['title']}")
        if text := about_events(about):
            parts.append(text)
        parts.append(scenario_table(results, name))
        if is_charted(results, name):
            parts.append(f"![{about['title']}]({CHARTS}/{name}.svg)")
    if results["peers"]:
        parts.append("### PostgreSQL and Redis alone, each over its own protocol")
        parts.append(peers_table(results))
    if notes := failures(results):
        parts.append("### What did not go well")
        parts.append(notes)
    return "\n\n".join(parts)


def short_table(results: dict) -> str:
    if MAIN_SCENARIO not in results["summary"]:
        return conditions(results)
    title = results["scenarios"][MAIN_SCENARIO]["title"]
    leave_out = {"client cores", "checks"}
    table = scenario_table(results, MAIN_SCENARIO, leave_out)
    charted = is_charted(results, MAIN_SCENARIO)
    chart = f"\n\n![{title}](load_test/{CHARTS}/{MAIN_SCENARIO}.svg)" if charted else ""
    return f"{title[0].upper()}{title[1:]}. {conditions(results)}\n\n{table}{chart}"


def conditions(results: dict) -> str:
    about = results["machine"]
    sync = about["sync_us"]["append_fsync"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    loads = [run["load_average"] for run in results["runs"] if "load_average" in run]
    busy = f" Load average before a run: {statistics.median(loads):.1f} (median)." if loads else ""
    return (
        f"{results['started'][:10]}, {about['cpu']}, {about['cpus']} CPUs, Linux {about['kernel']}, "
        f"{about['file_system']}; appending 4 KiB and `fsync` took {sync['p50']:.0f} us (median), "
        f"{sync['p99']:.0f} us (p99). {count(results['repeats'], 'run')} of {results['seconds']} s each: "
        f"medians [least-most].{busy} Commit {results['commit']}; {versions}."
    )


def about_events(about: dict) -> str:
    split = about.get("events_of_each_shard")
    return f"Events of each shard, of {len(split)}: {', '.join(map(str, split))}." if split else ""


def scenario_table(results: dict, scenario: str, leave_out: set[str] = frozenset()) -> str:
    rows = []
    for name, row in results["summary"][scenario].items():
        about = results["contenders"][name]
        cells = dict(zip(HEADINGS, table_row(about, row)))
        rows.append([cells[heading] for heading in HEADINGS if heading not in leave_out])
    headings = [heading for heading in HEADINGS if heading not in leave_out]
    if compared_figure(results["scenarios"][scenario]) == "p99_us":
        headings[headings.index("of ours")] = "p99, of ours"
    return markdown(headings, rows)


def table_row(about: dict, row: dict) -> list[str]:
    if row["per_second"] is None:
        return [about["title"], about["durability"], "failed", *[""] * (len(HEADINGS) - 3)]
    latencies = [figure(row[name], lambda us: f"{us / 1000:.2f}") for name in ("p50_us", "p99_us", "p99_9_us")]
    return [
        about["title"],
        about["durability"],
        with_range(row["per_second"], lambda rate: f"{rate:,.0f}"),
        f"{row['ratio_to_ours']:.2f}" if "ratio_to_ours" in row else "",
        " / ".join(latencies) if row["p50_us"] else "",
        figure(row["server_cpu_us_per_request"], lambda us: f"{us:.1f}"),
        figure(row["server_memory_bytes"], lambda size: f"{size / 2**20:.0f}"),
        figure(row["client_cores"], lambda cores: f"{cores:.2f}"),
        lost(row["killed"]),
        "; ".join(row["violations"] + [f"{count(len(row['errors']), 'kind')} of failure"] * bool(row["errors"]))
        or "passed",
    ]


def lost(killed: dict | None) -> str:
    if killed is None:
        return ""
    if killed["lost"] == 0:
        return f"none of {killed['acknowledged']:,}"
    return f"**{killed['lost']:,} of {killed['acknowledged']:,}**"


def peers_table(results: dict) -> str:
    """Groups the samples by peer and load, in the order of the first round."""
    samples: dict[tuple[str, str, str], list[dict]] = {}
    for sample in results["peers"]:
        samples.setdefault((sample["peer"], sample["load"], sample["durability"]), []).append(sample)
    rows = []
    for (peer, load, durability), group in samples.items():
        rates = spread(sample.get("per_second") for sample in group)
        rows.append([peer, load, durability, with_range(rates, lambda rate: f"{rate:,.0f}") if rates else "failed"])
    return markdown(["peer", "load", "durability", "reservations/s"], rows)


def failures(results: dict) -> str:
    texts = []
    for scenario, rows in results["summary"].items():
        for name, row in rows.items():
            texts += [f"- {scenario}, {name}: {' '.join(text.split())[:FAILURE_MAX]}" for text in row["errors"]]
    return "\n".join(texts)


def figure(values: dict | None, write: Callable[[float], str]) -> str:
    return write(values["median"]) if values else "-"


def with_range(values: dict, write: Callable[[float], str]) -> str:
    if values["samples"] == 1:
        return write(values["median"])
    return f"{write(values['median'])} [{write(values['min'])}-{write(values['max'])}]"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    def written(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([written(headings), written("---" for _ in headings), *map(written, rows)])


def replace_between_marks(file: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Writes `text` between the two marks in `file`. Each mark must occur once, on its own line."""
    content = file.read_text()
    if content.count(begin) != 1 or content.count(end) != 1 or content.index(begin) > content.index(end):
        raise ValueError(f"{file} has to have one line {begin!r} and, below it, one line {end!r}")
    head, rest = content.split(begin)
    _, tail = rest.split(end)
    file.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}")
