"""Redis: a private server with an append-only file, loaded by redis-benchmark.

A reservation is a Lua script on the server: check, decrement, and append to a stream. Scripts are
atomic, so nothing is oversold. With `appendfsync always` the file is synced before clients are
answered; with `everysec` a crash loses up to a second or two of acknowledged sales.
"""

from __future__ import annotations

import csv
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Iterable

from . import process, tools

EVENT_COUNT = 4
QUOTA = 1_000_000_000

SCRIPT = """\
if tonumber(redis.call('GET', KEYS[1])) < tonumber(ARGV[2]) then return 0 end
redis.call('DECRBY', KEYS[1], ARGV[2])
return redis.call('XADD', KEYS[1] .. ':sold', '*', 'customer', ARGV[1], 'quantity', ARGV[2])
"""

RECORDED = (
    "appendonly",
    "appendfsync",
    "save",
    "auto-aof-rewrite-percentage",
    "no-appendfsync-on-rewrite",
    "io-threads",
    "maxclients",
)

# The requests of the first run, which only determines how many fit into the duration.
REQUESTS_MIN = 10_000


class RedisError(Exception):
    """The output of redis-benchmark cannot be parsed, or the totals are inconsistent."""


@dataclass(frozen=True)
class Run:
    """One run of redis-benchmark."""

    clients: int
    pipelined: int
    requests: int
    per_second: float
    # p50, p99, measured by the clients; with pipelining, per write.
    latency_us: dict[str, float]

    def as_json(self) -> dict:
        return asdict(self)


class Redis(process.PrivateServer):
    """A private Redis."""

    def __init__(self, directory: Path, *, appendfsync: str = "always", **placed) -> None:
        """`placed` is as in `PrivateServer`."""
        self.appendfsync = appendfsync
        super().__init__(directory, **placed)

    def start(self) -> None:
        command = [tools.require("redis-server"), "--port", self.port, "--bind", "127.0.0.1", "--dir", self.directory]
        # No snapshots and no rewriting of the file during the load, which would slow it down.
        command += ["--appendonly", "yes", "--appendfsync", self.appendfsync]
        command += ["--save", "", "--auto-aof-rewrite-percentage", "0"]
        self.run(command).wait_for_line("Ready to accept connections")

    def command(self, *words: str | int) -> list[str]:
        """Runs a command and returns the lines of its output."""
        cli = [tools.require("redis-cli"), "-h", "127.0.0.1", "-p", self.port, "-e"]
        return process.run([*cli, *words]).splitlines()

    def reset(self) -> None:
        """Creates events with all tickets available, and removes all reservations."""
        self.command("FLUSHALL", "SYNC")
        self.command("MSET", *(word for event in self._events() for word in (event, QUOTA)))

    def settings(self) -> dict[str, str]:
        """The settings that affect speed and durability, as CONFIG GET returns them, and the version."""
        found = {}
        for name in RECORDED:
            answer = self.command("CONFIG", "GET", name)
            # An empty value is printed as an empty line or not at all.
            found[name] = answer[1] if len(answer) > 1 else ""
        for line in self.command("INFO", "server"):
            if match := re.match(r"redis_version:(\S+)", line):
                found["redis_version"] = match[1]
        return found

    def sold(self) -> int:
        """The tickets sold; raises `RedisError` if counters and streams differ."""
        by_counters = sum(QUOTA - int(self.command("GET", event)[0]) for event in self._events())
        by_streams = sum(int(self.command("XLEN", f"{event}:sold")[0]) for event in self._events())
        if by_counters != by_streams:
            raise RedisError(f"{by_counters} tickets sold by the counters, {by_streams} by the streams")
        return by_counters

    def benchmark(
        self,
        seconds: float,
        *,
        clients: int = 80,
        pipelined: int = 1,
        threads: int = 1,
        cpus: Iterable[int] | None = None,
    ) -> Run:
        """Runs redis-benchmark for about `seconds`. It takes a number of requests, which a short run determines."""
        digest = self.command("SCRIPT", "LOAD", SCRIPT)[0]
        tried = self._benchmark(REQUESTS_MIN, digest, clients, pipelined, threads, cpus)
        # Twice, since a run of a few milliseconds gives a poor estimate.
        for part in (0.1, 1.0):
            requests = max(REQUESTS_MIN, int(tried.per_second * seconds * part))
            before = self.sold()
            tried = self._benchmark(requests, digest, clients, pipelined, threads, cpus)
            if (sold := self.sold() - before) != tried.requests:
                raise RedisError(f"{tried.requests} requests, but {sold} tickets sold")
        return tried

    def _benchmark(self, requests: int, digest: str, clients: int, pipelined: int, threads: int, cpus) -> Run:
        # A multiple of the clients, since redis-benchmark rounds up otherwise.
        requests -= requests % (clients * pipelined)
        command = [tools.require("redis-benchmark"), "-h", "127.0.0.1", "-p", self.port, "-c", clients, "-n", requests]
        command += ["-P", pipelined, "--csv", "-r", EVENT_COUNT]
        if threads > 1:
            command += ["--threads", threads]
        output = process.run([*command, "EVALSHA", digest, 1, "event:__rand_int__", "1", "1"], cpus=cpus)
        return parse_benchmark(output, clients=clients, pipelined=pipelined, requests=requests)

    @staticmethod
    def _events() -> list[str]:
        # The format in which redis-benchmark writes __rand_int__.
        return [f"event:{number:012}" for number in range(EVENT_COUNT)]


def parse_benchmark(output: str, *, clients: int, pipelined: int, requests: int) -> Run:
    """Parses `output`, which is CSV with a header line."""
    rows = list(csv.DictReader(output.splitlines()))
    try:
        [row] = rows
        return Run(
            clients=clients,
            pipelined=pipelined,
            requests=requests,
            per_second=float(row["rps"]),
            latency_us={name: round(float(row[f"{name}_latency_ms"]) * 1000, 1) for name in ("p50", "p99")},
        )
    except (KeyError, ValueError):
        raise RedisError(
            f"redis-benchmark printed something else than one line of figures:\n{output[-2000:]}"
        ) from None
