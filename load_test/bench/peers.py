"""PostgreSQL and Redis alone, each over its own protocol, without a program in front."""

from __future__ import annotations

import shutil

from .postgres import CLIENT_COUNTS, Postgres
from .redis import Redis
from .report import count
from .runner import WORK
from .scenarios import two_cpus

# The time besides the measured seconds: starting both, and empty tables for each number of clients.
SECONDS_AROUND = 15.0
SECONDS_AROUND_A_RUN = 1.5

PIPELINED = (1, 10)


def seconds(repeats: int, seconds_each: int) -> float:
    """Estimates the duration of `measure` for all repeats."""
    runs = len(CLIENT_COUNTS) + len(PIPELINED)
    return repeats * (SECONDS_AROUND + runs * (seconds_each + SECONDS_AROUND_A_RUN))


def measure(repeat: int, seconds_each: int) -> list[dict]:
    """Measures both once, on the same two CPUs as their clients. A failure is a sample with an error."""
    samples = []
    for peer, measure_peer in (("PostgreSQL", _postgres), ("Redis", _redis)):
        print(f"{repeat + 1} {peer} alone", end=" ", flush=True)
        directory = WORK / "peer"
        shutil.rmtree(directory, ignore_errors=True)
        try:
            found = measure_peer(directory, seconds_each)
            print(", ".join(f"{sample['load']}: {sample['per_second']:,.0f}/s" for sample in found), flush=True)
        except Exception as reason:
            found = [{"error": f"{type(reason).__name__}: {reason}", "load": "", "durability": ""}]
            print(f"FAILED {found[0]['error'].splitlines()[0]}", flush=True)
        samples += [{"peer": peer, "repeat": repeat, **sample} for sample in found]
    return samples


def _postgres(directory, seconds_each: int) -> list[dict]:
    with Postgres(directory, cpus=two_cpus()) as postgres:
        settings = postgres.settings()
        return [
            {
                "load": f"pgbench, one statement, {count(run.clients, 'client')}",
                "durability": f"synchronous_commit={settings['synchronous_commit']}",
                "settings": settings,
                **run.as_json(),
            }
            for run in postgres.pgbench_by_clients(seconds_each, threads=2, cpus=two_cpus())
        ]


def _redis(directory, seconds_each: int) -> list[dict]:
    with Redis(directory, cpus=two_cpus()) as redis:
        settings = redis.settings()
        return [
            {
                "load": f"redis-benchmark, Lua, {run.clients} clients"
                + (f", pipelined by {run.pipelined}" if run.pipelined > 1 else ""),
                "durability": f"appendfsync {settings['appendfsync']}",
                "settings": settings,
                **run.as_json(),
            }
            for run in (redis.benchmark(seconds_each, pipelined=pipelined, cpus=two_cpus()) for pipelined in PIPELINED)
        ]
