"""The command line of `load_test/growth`: measures the curves in rounds and writes the results."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

from . import command, contenders, curves, growth_report, machine, process, report, runner, tools
from .curves import CURVES, WORK, Bench, Curve

LOAD_TEST = contenders.ROOT / "load_test"
RESULTS = LOAD_TEST / "growth.json"
CHARTS = LOAD_TEST / "charts"
README = LOAD_TEST / "README.md"

REPEATS, SECONDS = 3, 3
QUICK_REPEATS, QUICK_SECONDS = 1, 1

FORMAT = 1

# The results of an interrupted run.
PARTIAL_RESULTS = WORK / "partial.json"


def main() -> int:
    options = parse()
    if options.report_only:
        write(json.loads(options.out.read_text()), options)
        return 0
    return runner.alone("growth", PARTIAL_RESULTS, lambda: measure_all(options), (*curves.FAULTS, tools.ToolError))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="load_test/growth",
        description="How throughput, latency and memory change with events, reservations, connections, shards, batches.",
    )
    parser.add_argument("--quick", action="store_true", help="one round of one second per run, with few steps; writes to target/")
    parser.add_argument(
        "--only", type=command.names, metavar="CURVE,...", help=f"curves: {', '.join(CURVES)}; writes to target/"
    )
    parser.add_argument("--repeats", type=command.whole, metavar="N", help=f"rounds over all measurements [{REPEATS}]")
    parser.add_argument("--seconds", type=command.whole, metavar="N", help=f"duration of each measurement [{SECONDS}]")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the results [load_test/growth.json]")
    parser.add_argument("--report-only", action="store_true", help="only write the table and charts of existing results")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - set(CURVES):
        parser.error(f"--only: unknown: {', '.join(sorted(unknown))}; the curves are {', '.join(CURVES)}")
    options.repeats = options.repeats or (QUICK_REPEATS if options.quick else REPEATS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    if options.out is None:
        # Only whole runs are published; the results of partial runs are written to target/.
        partial = (options.quick or options.only) and not options.report_only
        options.out = WORK / "quick.json" if partial else RESULTS
    options.out = options.out.resolve()
    if options.report_only and not options.out.exists():
        parser.error(f"--report-only: there is no {options.out}")
    return options


def measure_all(options: argparse.Namespace) -> int:
    bench = Bench(options.seconds, curves.QUICK_CUSTOMER_COUNT if options.quick else curves.CUSTOMER_COUNT)
    try:
        return measure(options, bench)
    finally:
        # Directories are removed after the servers in them have ended.
        process.end_all()
        bench.clean_up()


def measure(options: argparse.Namespace, bench: Bench) -> int:
    tools.ensure_tools(["wrk"])
    allow_connections(max(CURVES["connections"].xs))
    chosen = [
        (curve, curve.quick_xs if options.quick else curve.xs)
        for curve in CURVES.values()
        if options.only is None or curve.name in options.only
    ]
    left_out = {curve.name for curve, _ in chosen if curve.needs and not curves.has_option(curve.needs)}
    taken = [(curve, xs) for curve, xs in chosen if curve.name not in left_out]
    seconds = curves.SECONDS_OF_PREPARING
    seconds += options.repeats * sum(curve.seconds(xs, options.seconds) for curve, xs in taken)
    print(
        f"about {report.count(max(1, round(seconds / 60)), 'minute')} on a machine with nothing else to do", flush=True
    )

    WORK.mkdir(parents=True, exist_ok=True)
    results = {
        "format": FORMAT,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "repeats": options.repeats,
        "seconds": options.seconds,
        "customers": bench.customer_count,
        "machine": machine.describe(WORK, {"wrk": tools.find("wrk"), "boxoffice": contenders.boxoffice()}),
        "commit": command.commit(),
        "curves": {curve.name: describe(curve, left_out) for curve, _ in chosen},
    }
    begin = time.monotonic()
    bench.prepare(sorted(curves.event_counts(taken)))
    try:
        for repeat in range(options.repeats):
            for curve, xs in taken:
                for sample in curve.measure(bench, xs, repeat):
                    print(f"{repeat + 1} {curve.name:12} {sample['x']:10,}  {growth_report.line(sample)}", flush=True)
                    results["curves"][curve.name]["samples"].append(sample)
    except BaseException:
        report.write_json(results, PARTIAL_RESULTS)
        raise
    results["took_seconds"] = round(time.monotonic() - begin)
    print(f"took {results['took_seconds'] / 60:.1f} minutes")
    write(results, options)
    for text in growth_report.failures(results):
        print(f"growth: {text}", file=sys.stderr)
    return 1 if growth_report.failures(results) else 0


def describe(curve: Curve, left_out: set[str]) -> dict:
    described = {"title": curve.title, "x_label": curve.x_label, "conditions": curve.conditions, "log_y": curve.log_y}
    described["samples"] = []
    if curve.name in left_out:
        described["left_out"] = f"this server has no option {curve.needs}"
        print(f"{curve.name}: not measured, {described['left_out']}", flush=True)
    return described


def write(results: dict, options: argparse.Namespace) -> None:
    published = options.out == RESULTS
    charts = CHARTS if published else options.out.with_suffix(".charts")
    growth_report.write_all(results, options.out, charts, README if published else None)


def allow_connections(count: int) -> None:
    """Raises the limit of open files, which the server and the client inherit."""
    # The server reserves 512 descriptors besides its connections.
    needed = count + 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise process.ProcessError(
            f"open files are limited to {hard}, {needed} are needed: raise the limit (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))


if __name__ == "__main__":
    sys.exit(main())
