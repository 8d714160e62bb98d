"""Curves: one parameter is raised step by step, and each step is measured on a new server.

Single durable reservations, one after the other on each connection. Unless a curve says otherwise:
80 connections, 1000 events, one shard on the first CPU and the client on the second.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Sequence

from . import api, load, machine, pipeline, process, scenarios
from .contenders import LISTENING, TARGET, boxoffice
from .process import Server
from .scenarios import CONNECTIONS, Layout

WORK = TARGET / "growth"

# Each customer costs two runs of argon2. At the end of the curve over reservations, each has 10,000.
CUSTOMER_COUNT = 1000
QUICK_CUSTOMER_COUNT = 100
EVENT_COUNT = 1000
# Few events for servers with many reservations, so that the effect of reservations per event shows.
FEW_EVENTS = 4

# The warm-up of connections, tokens and caches is not measured.
WARM_UP_SECONDS = 1

# The number of different requests of a fill.
FILL_REQUESTS = 6400

RECOVERED = r"recovered (\d+) records? in (\d+) ms"


class CurveError(Exception):
    """A server behaved incorrectly, so its figures are invalid."""


# Failures of one measurement, after which the next one continues.
FAULTS = (CurveError, process.ProcessError, pipeline.PipelineError, load.LoadError, api.ApiError, OSError)


def all_cpus() -> Layout:
    """Server and client on all CPUs, since there may be a shard for each."""
    cpus = process.available_cpus()
    return Layout(server=cpus, client=cpus)


@dataclass(frozen=True)
class Step:
    """One measurement: the server and its load."""

    x: int
    # The name of the load, if a curve has several.
    series: str = ""
    event_count: int = EVENT_COUNT
    # The number of events for which tickets are reserved.
    sold_events: int = EVENT_COUNT
    connections: int = CONNECTIONS
    pipelined: int = 1
    shards: int = 1
    layout: Callable[[], Layout] = scenarios.pinned
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curve:
    name: str
    title: str
    x_label: str
    # The parameters that are the same at each step.
    conditions: str
    xs: Sequence[int]
    quick_xs: Sequence[int]
    # The measurements at each x.
    steps: Callable[[int], list[Step]]
    # One server is used for all steps, instead of a new one for each.
    keeps_server: bool = False
    # An option that the server must support for this curve.
    needs: str | None = None
    # Figures with a logarithmic axis.
    log_y: tuple[str, ...] = ()

    def measure(self, bench: Bench, xs: Sequence[int], repeat: int) -> Iterator[dict]:
        if self.keeps_server:
            yield from _measure_filling(self, bench, xs, repeat)
            return
        # In ascending, then descending order, so that a drift of the machine does not distort the curve.
        for x in xs if repeat % 2 == 0 else reversed(xs):
            for step in self.steps(x):
                yield bench.measure_once(step, repeat)

    def seconds(self, xs: Sequence[int], seconds: float) -> float:
        """Estimates the duration of one repeat."""
        steps = sum(len(self.steps(x)) for x in xs)
        filling = max(xs) / FILLED_PER_SECOND + max(xs) / RECOVERED_PER_SECOND if self.keeps_server else 0
        return steps * (seconds + WARM_UP_SECONDS + SECONDS_AROUND) + filling


# Estimates, for the duration that is printed at the start.
FILLED_PER_SECOND = 100_000
RECOVERED_PER_SECOND = 1_000_000
SECONDS_AROUND = 1.5
SECONDS_OF_PREPARING = 40.0

CURVES: dict[str, Curve] = {
    curve.name: curve
    for curve in (
        Curve(
            "events",
            "Events: all are there, and all are sold from",
            "events",
            "80 connections, one shard on one CPU",
            (1, 10, 100, 1000, 10_000, 100_000),
            (1, 1000),
            lambda x: [Step(x, event_count=x, sold_events=x)],
        ),
        Curve(
            "reservations",
            "Reservations held before the measurement",
            "reservations held",
            f"80 connections, {FEW_EVENTS} events, one shard on one CPU; in each repeat one server, filled further and further",
            (0, 10_000, 100_000, 1_000_000, 3_000_000, 10_000_000),
            (0, 10_000),
            lambda x: [Step(x, sold_events=FEW_EVENTS)],
            keeps_server=True,
            log_y=("memory_mib",),
        ),
        Curve(
            "connections",
            "Connections, each with one request under way",
            "connections",
            "1000 events, one shard on one CPU, `--max-in-flight 8192`, so that none is refused",
            (10, 80, 320, 1000, 5000),
            (10, 320),
            lambda x: [Step(x, connections=x, options=("--max-in-flight", "8192"))],
            log_y=("p99_ms",),
        ),
        Curve(
            "shards",
            "Shards, on all CPUs, which the client shares",
            "shards",
            "80 connections, 1000 events",
            (1, 2, 4, 8),
            (1, 2),
            lambda x: [Step(x, shards=x, layout=all_cpus)],
        ),
        Curve(
            "batch",
            "Batch: the most records that one commit may have",
            "records a commit at most",
            "1000 events, one shard on one CPU",
            (1, 4, 16, 64, 256, 1000),
            (1, 64),
            lambda x: [
                Step(x, options=("--max-batch", str(x)), series="80 connections"),
                Step(x, options=("--max-batch", str(x)), series="80 connections, pipelined by 10", pipelined=10),
            ],
            needs="--max-batch",
            log_y=("per_second", "p99_ms", "cpu_us_per_request"),
        ),
    )
}


class Bench:
    """Shared by all curves: prepared directories with accounts and events, and the duration of measurements."""

    def __init__(self, seconds: int, customer_count: int = CUSTOMER_COUNT) -> None:
        self.seconds = seconds
        self.customer_count = customer_count
        self.prepared = WORK / "prepared"
        self.running = WORK / "run"
        self._event_ids: dict[int, list[int]] = {}
        self._tokens: list[str] = []

    def prepare(self, event_counts: Sequence[int]) -> None:
        """Creates a data directory for each number of events."""
        self.clean_up()
        self.prepared.mkdir(parents=True)
        data, made = None, []
        for count in sorted(set(event_counts)):
            directory = self.prepared / f"events-{count}"
            if data is not None:
                shutil.copytree(data, directory)
            server, url = start(directory, self.prepared / "log")
            if data is None:
                accounts, _ = api.populate(url, self.customer_count, [])
                self._tokens = accounts.customers
            made = made + create_events(url, accounts.organizer, count - len(made))
            server.stop()
            self._event_ids[count] = made
            data = directory

    def clean_up(self) -> None:
        for directory in (self.prepared, self.running):
            shutil.rmtree(directory, ignore_errors=True)

    def stand(self, step: Step) -> Stand:
        """Starts a new server on a copy of a prepared directory."""
        shutil.rmtree(self.running, ignore_errors=True)
        self.running.mkdir(parents=True)
        shutil.copytree(self.prepared / f"events-{step.event_count}", self.running / "data")
        return Stand(self.running, step, self._tokens, self._event_ids[step.event_count][: step.sold_events])

    def measure_once(self, step: Step, repeat: int) -> dict:
        """Returns a sample, or its failure, after which the others continue."""
        try:
            stand = self.stand(step)
            sample = stand.measure(step, self.seconds)
            stand.server.stop()
        except FAULTS as reason:
            return self.failed(step.x, step.series, repeat, reason)
        return {**sample, "repeat": repeat}

    def failed(self, x: int, series: str, repeat: int, reason: Exception) -> dict:
        process.end_all()
        return {"x": x, "series": series, "repeat": repeat, "error": f"{type(reason).__name__}: {reason}"}


class Stand:
    """A running server, and the accounts and events used on it."""

    def __init__(self, directory: Path, step: Step, tokens: Sequence[str], events: Sequence[int]) -> None:
        self.directory = directory
        self._step = step
        self._layout = step.layout()
        self._tokens = tokens
        self._events = events
        self._start()

    def _start(self) -> None:
        options = ("--shards", str(self._step.shards), *self._step.options)
        self.server, self.url = start(self.directory / "data", self.directory / "log", options, self._layout.server)

    def measure(self, step: Step, seconds: int) -> dict:
        """Returns the figures of the load of `step` for `seconds`, after a warm-up."""
        load_average = machine.load_average()
        requests = self.directory / "requests"
        load.write_requests(requests, self._tokens, self._events)
        options = {
            "connections": step.connections,
            "pipelined": step.pipelined,
            "threads": min(len(self._layout.client), step.connections),
            "cpus": self._layout.client,
        }
        load.wrk(self.url, requests, seconds=WARM_UP_SECONDS, **options)
        before, cpu_before = self.settled_metrics(), process.cpu_seconds([self.server])
        seen = load.wrk(self.url, requests, seconds=seconds, **options)
        used = process.usage([self.server])
        after = self.settled_metrics()
        check(before, after, seen, under_way=step.connections * step.pipelined)
        return {
            "x": step.x,
            "series": step.series,
            "held": before["tickets_reserved"],
            "created": seen.created,
            "per_second": seen.per_second,
            "latency_us": seen.latency_us,
            "cpu_us_per_request": (used.cpu_seconds - cpu_before) / seen.answered * 1e6,
            "memory_bytes": used.memory_bytes,
            "load_average": load_average,
            "records_per_commit": (after["records_total"] - before["records_total"])
            / (after["commits_total"] - before["commits_total"]),
        }

    def fill(self, count: int) -> None:
        """Makes this number of reservations."""
        drawn = random.Random(1)
        host = pipeline.host_of(self.url)
        requests = [
            pipeline.request(
                host, f"/api/v1/events/{drawn.choice(self._events)}/reservations", drawn.choice(self._tokens), load.BODY
            )
            for _ in range(min(FILL_REQUESTS, count))
        ]
        pipeline.send_all(self.url, requests, count)

    def recover(self) -> dict:
        """Kills the server and restarts it on its directory."""
        before = self.settled_metrics()
        self.server.kill()
        begin = time.monotonic()
        self._start()
        took = time.monotonic() - begin
        records, milliseconds = map(int, self.server.wait_for_line(RECOVERED).groups())
        if (now := self.metrics()["tickets_reserved"]) != before["tickets_reserved"]:
            raise CurveError(f"{before['tickets_reserved']} tickets were sold before a kill, {now} after it")
        return {
            "records": records,
            "milliseconds": milliseconds,
            "start_milliseconds": round(took * 1000),
            "memory_bytes": process.usage([self.server]).memory_bytes,
        }

    def metrics(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            return parse_metrics(answer.read().decode())

    def settled_metrics(self) -> dict[str, int]:
        """Reads until two readings agree, since requests in flight at the end of a load may still be carried out.

        The server publishes the number of reserved tickets ten times a second."""
        before = self.metrics()
        while True:
            time.sleep(0.3)
            after = self.metrics()
            if after["records_total"] == before["records_total"]:
                return after
            before = after


def _measure_filling(curve: Curve, bench: Bench, xs: Sequence[int], repeat: int) -> Iterator[dict]:
    """Uses one server while it holds no more reservations than the next step begins with."""
    stand: Stand | None = None
    x = xs[0]
    try:
        for x in xs:
            [step] = curve.steps(x)
            if stand is None or stand.settled_metrics()["tickets_reserved"] > x:
                if stand is not None:
                    stand.server.stop()
                stand = bench.stand(step)
            stand.fill(x - stand.settled_metrics()["tickets_reserved"])
            # The warm-up makes reservations too, but few compared to the millions of a step.
            yield {**stand.measure(step, bench.seconds), "repeat": repeat}
        yield {"x": x, "repeat": repeat, "recovery": stand.recover()}
        stand.server.stop()
    except FAULTS as reason:
        # The later steps would have used this server.
        yield bench.failed(x, "", repeat, reason)


def check(before: dict[str, int], after: dict[str, int], seen: load.Load, under_way: int) -> None:
    """Checks that every response is a sale and is recorded; up to `under_way` may lack a response."""
    if seen.refused or seen.errors or not seen.answered:
        raise CurveError(
            f"of {seen.answered} answers {seen.refused or 'none'} were not 2xx, {seen.errors} requests failed"
        )
    recorded = after["tickets_reserved"] - before["tickets_reserved"]
    if not seen.created <= recorded <= seen.created + under_way:
        raise CurveError(f"{seen.created} reservations were acknowledged, {recorded} recorded")


def start(data: Path, log: Path, options: Sequence[str] = (), cpus: Sequence[int] | None = None) -> tuple[Server, str]:
    command = [boxoffice(), "serve", "--data", data, "--listen", "127.0.0.1:0", "--registration", "open", *options]
    server = Server(command, log=log, cpus=cpus)
    # Recovery of millions of records takes a while.
    return server, server.wait_for_line(LISTENING, seconds=300)[1]


def create_events(url: str, token: str, count: int) -> list[int]:
    """Creates events with the maximum quota. Returns their ids in ascending order."""
    if count == 0:
        return []
    body = json.dumps({"name": "Event", "quota": api.QUOTA})
    ids: list[int] = []

    def answered(answers: bytes) -> None:
        ids.extend(
            int(found) for found in re.findall(rb"\r\nlocation: /api/v1/events/(\d+)\r\n", answers, re.IGNORECASE)
        )

    requests = [pipeline.request(pipeline.host_of(url), "/api/v1/events", token, body)] * min(count, FILL_REQUESTS)
    pipeline.send_all(url, requests, count, answered)
    if len(set(ids)) != count:
        raise CurveError(f"{count} events were requested, {len(set(ids))} created")
    return sorted(ids)


def parse_metrics(text: str) -> dict[str, int]:
    """The metrics of boxoffice without labels, by name without the prefix."""
    return {name: int(value) for name, value in re.findall(r"^boxoffice_(\w+) (\d+)$", text, re.MULTILINE)}


def has_option(option: str) -> bool:
    return option in process.run([boxoffice(), "serve", "--help"])


def event_counts(curves: Sequence[tuple[Curve, Sequence[int]]]) -> set[int]:
    return {step.event_count for curve, xs in curves for x in xs for step in curve.steps(x)}
