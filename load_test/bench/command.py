"""The command line of `load_test/compare`: runs the measurements in rounds and writes the results."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from . import contenders, load, machine, peers, process, report, runner, tools
from .contenders import ROOT, Contender
from .scenarios import QUICK, SCENARIOS, Scenario

RESULTS = ROOT / "load_test" / "results.json"
QUICK_RESULTS = runner.WORK / "quick.json"
# The results of an interrupted run.
PARTIAL_RESULTS = runner.WORK / "partial.json"

REPEATS, SECONDS = 3, 3
QUICK_REPEATS, QUICK_SECONDS = 1, 1

# The time besides the measured seconds: start, warm-up, reading the totals, stop; and the two proofs.
SECONDS_AROUND_A_RUN = 3.5
SECONDS_OF_PROOFS = 4.5

FORMAT = 1


def main() -> int:
    options = parse()
    if options.report_only:
        report.write_all(json.loads(options.out.read_text()), options.out, publish=options.out == RESULTS)
        return 0
    return runner.alone(
        "compare", PARTIAL_RESULTS, lambda: compare(options), (process.ProcessError, tools.ToolError)
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="load_test/compare",
        description="Compares boxoffice with common alternative designs on this machine.",
    )
    parser.add_argument("--quick", action="store_true", help="one round of one second per run, with few contenders; writes to target/")
    parser.add_argument("--repeats", type=whole, metavar="N", help=f"rounds over all measurements [{REPEATS}]")
    parser.add_argument("--seconds", type=whole, metavar="N", help=f"duration of each measurement [{SECONDS}]")
    parser.add_argument("--only", type=names, metavar="NAME,...", help=f"contenders: {', '.join(contenders.ALL)}")
    parser.add_argument(
        "--scenario", type=names, metavar="NAME,...", help=f"scenarios: {', '.join(s.name for s in SCENARIOS)}, peers"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the results [load_test/results.json]")
    parser.add_argument("--report-only", action="store_true", help="only write the tables and charts of existing results")
    options = parser.parse_args()

    unknown = set(options.only or ()) - set(contenders.ALL)
    unknown |= set(options.scenario or ()) - {"peers", *(scenario.name for scenario in SCENARIOS)}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; --help lists the names")
    options.repeats = options.repeats or (QUICK_REPEATS if options.quick else REPEATS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    partial = options.quick or options.only or options.scenario
    if options.out is None:
        # Only whole runs are published; the results of partial runs are written to target/.
        options.out = QUICK_RESULTS if partial and not options.report_only else RESULTS
    options.out = options.out.resolve()
    if options.report_only and not options.out.exists():
        parser.error(f"--report-only: there is no {options.out}")
    return options


def whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def plan(options: argparse.Namespace) -> list[tuple[Scenario, list[Contender]]]:
    """The selected scenarios, each with its selected contenders."""
    planned = []
    for scenario in SCENARIOS:
        if options.scenario is not None and scenario.name not in options.scenario:
            continue
        taking_part = scenario.contenders
        # --quick omits contenders that are not named.
        if options.quick and options.scenario is None:
            taking_part = QUICK.get(scenario.name, ())
        chosen = [contenders.ALL[name] for name in taking_part if not options.only or name in options.only]
        if chosen:
            planned.append((scenario, chosen))
    return planned


def compare(options: argparse.Namespace) -> int:
    planned = plan(options)
    with_peers = options.only is None and (options.scenario is None or "peers" in options.scenario)
    if not planned and not with_peers:
        print("nothing to do: no contender of --only takes part in a scenario of --scenario", file=sys.stderr)
        return 2
    ensure_tools({scenario.tool for scenario, _ in planned})
    taking_part = {contender.name: contender for _, chosen in planned for contender in chosen}
    failed = prepare(taking_part)
    shutil.rmtree(runner.FAILED, ignore_errors=True)

    run_count = options.repeats * sum(len(chosen) for _, chosen in planned)
    seconds = options.repeats * sum(
        len(chosen) * (options.seconds + SECONDS_AROUND_A_RUN) + SECONDS_OF_PROOFS * proved_count(scenario, chosen)
        for scenario, chosen in planned
    )
    seconds += peers.seconds(options.repeats, options.seconds) if with_peers else 0
    print(f"{run_count} measurements, about {seconds / 60:.0f} minutes", flush=True)

    results = {
        "format": FORMAT,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "repeats": options.repeats,
        "seconds": options.seconds,
        "machine": machine.describe(runner.WORK, programs()),
        "commit": commit(),
        "contenders": {
            name: {"title": contender.title, "kind": contender.kind, "durability": contender.durability}
            for name, contender in taking_part.items()
        },
        "scenarios": {scenario.name: describe(scenario, chosen, failed) for scenario, chosen in planned},
        "settings": {},
        "runs": [],
        "peers": [],
    }
    begin = time.monotonic()
    try:
        for repeat in range(options.repeats):
            for scenario, chosen in planned:
                # The order rotates, so that no contender always runs after the same one.
                turn = repeat % len(chosen)
                for contender in chosen[turn:] + chosen[:turn]:
                    run = run_once(contender, scenario, repeat, options.seconds, failed.get(contender.name))
                    keep_settings(results["settings"], contender.name, run)
                    results["runs"].append(run)
            if with_peers:
                for sample in peers.measure(repeat, options.seconds):
                    keep_settings(results["settings"], sample["peer"], sample)
                    results["peers"].append(sample)
    except BaseException:
        report.write_json(results, PARTIAL_RESULTS)
        raise
    results["took_seconds"] = round(time.monotonic() - begin)
    report.write_all(results, options.out, publish=options.out == RESULTS)
    return verdict(results)


def proved_count(scenario: Scenario, chosen: list[Contender]) -> int:
    return sum(contender.kind != "ceiling" for contender in chosen) if scenario.proved else 0


def ensure_tools(generators: set[str]) -> None:
    """Installs the load generators and databases that are missing."""
    for program in ("cargo", "cc", "taskset", *(("node", "npm") if "autocannon" in generators else ())):
        tools.require(program)
    tools.ensure_tools()
    if "autocannon" in generators:
        load.install_autocannon()
    if "oha" in generators:
        load.install_oha()


def programs() -> dict[str, Path | None]:
    """The programs whose versions are part of the results."""
    names = ("nginx", "node", "postgres", "python3", "redis-server", "rustc", "wrk")
    return {**{name: tools.find(name) for name in names}, "oha": process.find("oha", load.TOOLS / "bin")}


def prepare(taking_part: dict[str, Contender]) -> dict[str, str]:
    """Builds the contenders. Returns the reasons for those that cannot be built."""
    failed = {}
    for name, contender in taking_part.items():
        try:
            contender.prepare()
        except Exception as reason:
            failed[name] = f"{type(reason).__name__}: {reason}"
    return failed


def run_once(contender: Contender, scenario: Scenario, repeat: int, seconds: int, failed: str | None) -> dict:
    """Makes one measurement. A failure is recorded as its result, and the others continue."""
    head = {"scenario": scenario.name, "contender": contender.name, "repeat": repeat}
    print(f"{repeat + 1} {scenario.name:14} {contender.name:20}", end=" ", flush=True)
    try:
        if failed:
            raise process.ProcessError(failed)
        sample = runner.measure(contender, scenario, seconds, f"{scenario.name}-{contender.name}-{repeat + 1}")
    except Exception as reason:
        text = f"{type(reason).__name__}: {reason}"
        print(f"FAILED {text.splitlines()[0]}", flush=True)
        return {**head, "error": text}
    print(report.line(sample), flush=True)
    return {**head, **sample}


def keep_settings(settings: dict, name: str, sample: dict) -> None:
    """Moves the settings out of a sample, since they depend only on the contender and its layout."""
    if (found := sample.pop("settings", None)) is not None:
        settings.setdefault(name, found)


def describe(scenario: Scenario, chosen: list[Contender], failed: dict[str, str]) -> dict:
    described = {
        "title": scenario.title,
        "tool": scenario.tool,
        "layout": scenario.layout,
        "events": scenario.event_count,
        "pipelined": scenario.pipelined,
        "per_second": scenario.per_second,
        "slow_sync_us": scenario.slow_sync_us,
        "reference": scenario.reference,
    }
    if "sqlite-2" in {contender.name for contender in chosen} - failed.keys():
        described["events_of_each_shard"] = contenders.split_over_shards(scenario.event_count)
    return described


def commit() -> str:
    """The measured commit, followed by "+" if the working tree has changes."""
    try:
        name = process.run(["git", "rev-parse", "--short=12", "HEAD"], directory=ROOT).strip()
        changed = process.run(["git", "status", "--porcelain", "--untracked-files=no"], directory=ROOT).strip()
    except (process.ProcessError, FileNotFoundError):
        return "unknown"
    return f"{name}+" if changed else name


def verdict(results: dict) -> int:
    """Returns 1 if a contender could not be measured or boxoffice violated a guarantee; prints which."""
    bad = []
    for run in results["runs"]:
        name = f"{run['scenario']}, {run['contender']}"
        kind = results["contenders"][run["contender"]]["kind"]
        if "error" in run:
            bad.append(f"{name}: {run['error'].splitlines()[0]}")
        elif kind != "phase":
            bad += [f"{name}: {text}" for text in run["violations"]]
            durable = results["contenders"][run["contender"]]["durability"] != contenders.NOT_DURABLE
            if run["killed"] and run["killed"]["lost"] and durable:
                bad.append(f"{name}: {run['killed']['lost']} acknowledged reservations lost by kill -9")
    bad += [f"{peer['peer']}: {peer['error'].splitlines()[0]}" for peer in results["peers"] if "error" in peer]
    for text in bad:
        print(f"compare: {text}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
