"""The report of curves: a summary, a table and charts."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterable

from . import report

# The marks in load_test/README.md between which the table is written.
BEGIN = "<!-- made by load_test/growth: begin -->"
END = "<!-- made by load_test/growth: end -->"

MIB = 1 << 20

# The figures, and how each is read from a sample; None if the load does not provide it.
FIGURES: dict[str, Callable[[dict], float | None]] = {
    "per_second": lambda sample: sample["per_second"],
    "p99_ms": lambda sample: sample["latency_us"]["p99"] / 1000 if sample["latency_us"] else None,
    "cpu_us_per_request": lambda sample: sample["cpu_us_per_request"],
    "memory_mib": lambda sample: sample["memory_bytes"] / MIB,
    "records_per_commit": lambda sample: sample["records_per_commit"],
    "held": lambda sample: sample["held"],
}

PANELS = {
    "per_second": "reservations/s",
    "p99_ms": "p99, ms",
    "cpu_us_per_request": "server CPU,\nus a request",
    "memory_mib": "memory, MiB",
}


def write_all(results: dict, out: Path, charts: Path, readme: Path | None) -> None:
    """Writes `out` with the summary, the charts, and the table into `readme` or next to `out`."""
    results["summary"] = summarize(results)
    report.write_json(results, out)
    for file in draw(results, charts):
        print(file)
    text = tables(results, charts.name)
    if readme is None:
        out.with_suffix(".md").write_text(text + "\n")
        print(f"\n{text}\n\n{out.with_suffix('.md')}")
    else:
        report.replace_between_marks(readme, text, BEGIN, END)
    print(out)


def summarize(results: dict) -> dict:
    """Summarizes each curve: the spread of each figure by series and x, and the recoveries."""
    summary = {}
    for name, curve in results["curves"].items():
        measured = [sample for sample in curve["samples"] if "per_second" in sample]
        points = []
        for series in _in_order(sample["series"] for sample in measured):
            own = [sample for sample in measured if sample["series"] == series]
            for x in sorted({sample["x"] for sample in own}):
                here = [sample for sample in own if sample["x"] == x]
                points.append({"series": series, "x": x, **summarize_point(here)})
        _compare_with_first(points)
        summary[name] = {
            "points": points,
            "bytes_per_reservation": bytes_per_reservation(measured),
            "recovery": summarize_recovery(curve["samples"]),
        }
    return summary


def summarize_point(samples: list[dict]) -> dict:
    return {name: report.spread(figure(sample) for sample in samples) for name, figure in FIGURES.items()}


def _compare_with_first(points: list[dict]) -> None:
    """Adds to each point the throughput and the CPU per request relative to the first x."""
    first: dict[str, dict] = {}
    for point in points:
        begin = first.setdefault(point["series"], point)
        for figure in ("per_second", "cpu_us_per_request"):
            point[f"{figure}_ratio"] = point[figure]["median"] / begin[figure]["median"]


def bytes_per_reservation(samples: list[dict]) -> dict | None:
    """The memory per reservation, from the first to the last step of each repeat.

    None if the number of reservations does not rise from step to step. The memory includes the
    reservations made by the measurement itself.
    """
    found = []
    xs = sorted({sample["x"] for sample in samples})
    for repeat in {sample["repeat"] for sample in samples}:
        own = {sample["x"]: sample for sample in samples if sample["repeat"] == repeat}
        if not {xs[0], xs[-1]} <= own.keys():
            # A measurement failed.
            continue
        first, last = own[xs[0]], own[xs[-1]]
        if last["held"] < max(1, last["x"]):
            return None
        more = (last["held"] + last["created"]) - (first["held"] + first["created"])
        if more <= 0:
            return None
        found.append((last["memory_bytes"] - first["memory_bytes"]) / more)
    return report.spread(found)


def summarize_recovery(samples: list[dict]) -> dict | None:
    recoveries = [sample["recovery"] for sample in samples if "recovery" in sample]
    if not recoveries:
        return None
    return {
        "records": report.spread(one["records"] for one in recoveries),
        "seconds": report.spread(one["milliseconds"] / 1000 for one in recoveries),
        "records_per_second": report.spread(one["records"] / max(1, one["milliseconds"]) * 1000 for one in recoveries),
        "memory_mib": report.spread(one["memory_bytes"] / MIB for one in recoveries),
    }


def draw(results: dict, directory: Path) -> list[Path]:
    """Draws a chart for each curve. Only this needs matplotlib."""
    from . import charts

    def spread_of(values: dict) -> charts.Spread:
        return charts.Spread(values["median"], values["min"], values["max"])

    files = []
    for name, curve in results["curves"].items():
        points = results["summary"][name]["points"]
        if not points:
            continue
        panels = []
        for figure, label in PANELS.items():
            series = []
            for one in _in_order(point["series"] for point in points):
                known = [point for point in points if point["series"] == one and point[figure] is not None]
                if known:
                    series.append(charts.Series(one, [(point["x"], spread_of(point[figure])) for point in known]))
            log = figure in curve["log_y"]
            panels.append(charts.Panel(label + "\n(logarithmic)" * log, series, log_y=log))
        files.append(directory / f"growth-{name}.svg")
        charts.lines(files[-1], charts.Lines(curve["title"], curve["x_label"], panels))
    return files


HEADINGS = (
    "reservations/s",
    "of the first",
    "p99 ms",
    "server CPU us a request",
    "of the first",
    "memory MiB",
    "records a commit",
)


def tables(results: dict, charts: str) -> str:
    parts = [conditions(results)]
    for name, curve in results["curves"].items():
        parts.append(f"### {curve['title']}")
        if "left_out" in curve:
            parts.append(f"Not measured: {curve['left_out']}.")
            continue
        parts.append(f"{curve['conditions'][0].upper()}{curve['conditions'][1:]}.")
        summary = results["summary"][name]
        parts.append(f"![{curve['title']}]({charts}/growth-{name}.svg)")
        parts.append(curve_table(curve, summary["points"]))
        if name == "reservations":
            parts.append(history_text(summary))
    if texts := failures(results):
        parts.append("### What did not go well")
        parts.append("\n".join(f"- {text}" for text in texts))
    return "\n\n".join(part for part in parts if part)


def failures(results: dict) -> list[str]:
    """The failed measurements, one per line."""
    return [
        f"{name}, {sample['x']:,}, round {sample['repeat'] + 1}: {sample['error'].splitlines()[0]}"
        for name, curve in results["curves"].items()
        for sample in curve["samples"]
        if "error" in sample
    ]


def conditions(results: dict) -> str:
    about = results["machine"]
    sync = about["sync_us"]["append_fsync"]
    samples = [sample for curve in results["curves"].values() for sample in curve["samples"]]
    loads = report.spread(sample.get("load_average") for sample in samples)
    busy = (
        f" Load average before a measurement, which itself makes 1 to 2: {loads['median']:.1f} (median)."
        if loads
        else ""
    )
    return (
        f"{results['started'][:10]}, {about['cpu']}, {about['cpus']} CPUs, Linux {about['kernel']}, "
        f"{about['file_system']}; appending 4 KiB and `fsync` took {sync['p50']:.0f} us (median), "
        f"{sync['p99']:.0f} us (p99). {report.count(results['repeats'], 'run')} of {results['seconds']} s each: "
        f"medians [least-most]. {results['customers']:,} customers.{busy} Commit {results['commit']}."
    )


def curve_table(curve: dict, points: list[dict]) -> str:
    several = len({point["series"] for point in points}) > 1
    rows = []
    for point in points:
        rows.append([
            *([point["series"]] if several else []),
            f"{point['x']:,}",
            report.with_range(point["per_second"], lambda rate: f"{rate:,.0f}"),
            f"{point['per_second_ratio']:.2f}",
            report.with_range(point["p99_ms"], lambda ms: f"{ms:.2f}") if point["p99_ms"] else "-",
            report.with_range(point["cpu_us_per_request"], lambda us: f"{us:.1f}"),
            f"{point['cpu_us_per_request_ratio']:.2f}",
            report.figure(point["memory_mib"], lambda mib: f"{mib:,.0f}"),
            report.figure(point["records_per_commit"], lambda records: f"{records:.0f}"),
        ])  # fmt: skip
    return report.markdown([*(["load"] if several else []), curve["x_label"], *HEADINGS], rows)


def history_text(summary: dict) -> str:
    sentences = []
    if memory := summary["bytes_per_reservation"]:
        sentences.append(f"Memory: {report.with_range(memory, lambda size: f'{size:.0f}')} bytes a reservation.")
    if recovery := summary["recovery"]:
        seconds = report.with_range(recovery["seconds"], lambda value: f"{value:.1f}")
        rate = report.with_range(recovery["records_per_second"], lambda value: f"{value:,.0f}")
        sentences.append(
            f"Killed at the end, it recovered {recovery['records']['median']:,.0f} records in {seconds} s, "
            f"{rate} records/s, and held {recovery['memory_mib']['median']:,.0f} MiB then."
        )
    return " ".join(sentences)


def line(sample: dict) -> str:
    """Formats a measurement as one line of progress."""
    if "error" in sample:
        return f"FAILED {sample['error'].splitlines()[0]}"
    if "recovery" in sample:
        one = sample["recovery"]
        return f"killed: {one['records']:,} records recovered in {one['milliseconds'] / 1000:.1f} s"
    latency = f"p99 {sample['latency_us']['p99'] / 1000:7.2f} ms" if sample["latency_us"] else " " * 14
    return (
        f"{sample['per_second']:9,.0f}/s  {latency}  {sample['cpu_us_per_request']:6.1f} us CPU  "
        f"{sample['memory_bytes'] / MIB:6.0f} MiB  {sample['records_per_commit']:5.1f} records a commit"
    )


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
