"""One measurement: a contender is started, loaded, checked, killed and stopped."""

from __future__ import annotations

import fcntl
import resource
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Callable

from . import api, checks, load, machine, process
from .contenders import TARGET, Contender, Setup, Stand
from .scenarios import CONNECTIONS, Layout, Scenario

WORK = TARGET / "compare"
# The logs of contenders that failed.
FAILED = WORK / "failed"

# The warm-up of connections, caches and the first checkpoints is not measured.
WARM_UP_SECONDS = 1


def alone(name: str, partial: Path, measure_all: Callable[[], int], faults: tuple[type[Exception], ...]) -> int:
    """Runs a command under a lock, so that no other measurement runs at the same time, and returns
    its exit status. After an interrupt, `partial` has the results so far. All programs are ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Restored, because shells ignore SIGINT for background jobs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    WORK.mkdir(parents=True, exist_ok=True)
    lock = (WORK / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{name}: another measurement is running on this machine; wait for its end", file=sys.stderr)
        return 2
    try:
        return measure_all()
    except KeyboardInterrupt:
        print(f"\ninterrupted; the results so far are in {partial}", file=sys.stderr)
        return 130
    except faults as reason:
        print(f"{name}: {reason}", file=sys.stderr)
        return 2
    finally:
        process.end_all()


def measure(contender: Contender, scenario: Scenario, seconds: int, run_name: str) -> dict:
    """Starts `contender` on a new directory, measures `scenario` for `seconds`, and stops it.

    Returns the sample as JSON. Raises an exception on failure; no process is left running.
    """
    layout = scenario.lay_out()
    directory = WORK / "run"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    environment = slow_sync(scenario.slow_sync_us) if scenario.slow_sync_us else {}
    load_average = machine.load_average()
    with ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        cleanup.callback(process.end_all)
        setup = Setup(
            directory, layout.server, len(layout.server), environment, scenario.event_count, cleanup
        )
        try:
            stand = contender.start(setup)
            sample = _measure_stand(contender, scenario, layout, setup, stand, seconds)
        except Exception:
            _keep_logs(directory, FAILED / run_name)
            raise
    return {**sample, "load_average": load_average}


def _measure_stand(
    contender: Contender, scenario: Scenario, layout: Layout, setup: Setup, stand: Stand, seconds: int
) -> dict:
    events = stand.stock.events[: scenario.event_count]
    requests = setup.directory / "requests"
    load.write_requests(requests, stand.stock.accounts.customers, events, stand.target)
    sells = contender.kind != "ceiling"
    generate(scenario, layout, stand.url, requests, WARM_UP_SECONDS)

    before = api.read_settled_events(stand.url, events) if sells else {}
    cpu_before, client_before = process.cpu_seconds(stand.servers), _children_cpu_seconds()
    seen = generate(scenario, layout, stand.url, requests, seconds)
    client_cpu = _children_cpu_seconds() - client_before
    used = process.usage(stand.servers)
    found = []
    if sells:
        after = api.read_settled_events(stand.url, events)
        found = checks.violations(before, after, seen, CONNECTIONS * scenario.pipelined)
    elif seen.refused or seen.errors or not seen.answered:
        found = [f"of {seen.answered} answers {seen.refused} were not 2xx, {seen.errors} requests failed"]

    killed = None
    if scenario.proved and sells:
        found += [f"selling out: {text}" for text in checks.sell_out(stand, layout, setup.directory)]
        killed, stand = checks.kill_in_the_middle(contender, setup, stand, layout)
        if killed.repeated:
            found.append(f"{killed.repeated} reservations were given to two customers")
    contender.stop(stand)
    return {
        "load": seen.as_json(),
        "server_cpu_us_per_request": (used.cpu_seconds - cpu_before) / max(1, seen.answered) * 1e6,
        "server_memory_bytes": used.memory_bytes,
        # In units of one busy core.
        "client_cores": client_cpu / seen.seconds,
        "violations": found,
        "killed": killed.as_json() if killed else None,
        "settings": stand.settings,
    }


def generate(scenario: Scenario, layout: Layout, url: str, requests: Path, seconds: int) -> load.Load:
    match scenario.tool:
        case "wrk":
            return load.wrk(
                url,
                requests,
                seconds=seconds,
                connections=CONNECTIONS,
                threads=len(layout.client),
                pipelined=scenario.pipelined,
                cpus=layout.client,
            )
        case "autocannon":
            return load.autocannon(url, requests, seconds=seconds, connections=CONNECTIONS, cpus=layout.client)
        case "oha":
            return load.oha(
                url,
                requests,
                per_second=scenario.per_second,
                seconds=seconds,
                connections=CONNECTIONS,
                cpus=layout.client,
            )
        case other:
            raise ValueError(f"unknown load generator {other}")


def slow_sync(microseconds: int) -> dict[str, str]:
    """The environment of a program whose syncs are delayed (slow_sync.c)."""
    library = WORK / "slow_sync.so"
    source = load.LOAD_TEST / "slow_sync.c"
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        library.parent.mkdir(parents=True, exist_ok=True)
        process.run(["cc", "-O2", "-shared", "-fPIC", source, "-o", library])
    return {"LD_PRELOAD": str(library), "SLOW_SYNC_US": str(microseconds)}


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _keep_logs(directory: Path, kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for log in (*directory.glob("*.log"), *directory.glob("*/log")):
        shutil.copy(log, kept / "-".join(log.relative_to(directory).parts))
