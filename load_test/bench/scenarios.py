"""The scenarios: layouts of programs on CPUs, loads, and contenders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from . import process

CONNECTIONS = 80


@dataclass(frozen=True)
class Layout:
    """The CPUs of the contender with all its processes, and those of the load generator."""

    server: Sequence[int]
    client: Sequence[int]


def pinned() -> Layout:
    first, second = two_cpus()
    return Layout(server=[first], client=[second])


def shared() -> Layout:
    return Layout(server=two_cpus(), client=two_cpus())


def two_cpus() -> list[int]:
    """The first two CPUs of this process. Larger machines use two as well, so that results are comparable."""
    cpus = process.available_cpus()[:2]
    if len(cpus) < 2:
        raise process.ProcessError("two CPUs are needed, one is available")
    return cpus


LAYOUTS = {"pinned": pinned, "shared": shared}


@dataclass(frozen=True)
class Scenario:
    name: str
    # The heading of the table.
    title: str
    layout: str
    tool: str
    event_count: int
    contenders: Sequence[str]
    pipelined: int = 1
    # Only for oha.
    per_second: int | None = None
    # The delay added to each sync of the disk.
    slow_sync_us: int = 0
    # True if the two proofs of checks.py follow each measurement.
    proved: bool = False

    def lay_out(self) -> Layout:
        return LAYOUTS[self.layout]()

    @property
    def reference(self) -> str:
        """boxoffice with its default on this machine: a shard per CPU."""
        return "sqlite-1" if self.layout == "pinned" else "sqlite-2"


SQLITE = ("sqlite-1", "sqlite-2")
PHASES = ("memory-lock", "postgres", "postgres-batched", "postgres-redis")
CEILINGS = ("actix", "ntex", "nginx", "front")

# The contenders that answer 201 when it is on disk, besides boxoffice itself.
SYNCED_PHASES = ("postgres", "postgres-statement", "postgres-batched-synced", "postgres-redis-synced")
SYNCED = (*SQLITE, "sqlite-commit-each", *SYNCED_PHASES)

SCENARIOS = [
    Scenario(
        "pinned",
        "4 events, wrk; the server on one core, the client on the other",
        "pinned",
        "wrk",
        4,
        ("sqlite-1", "sqlite-commit-each", "memory-1", *PHASES, *SYNCED_PHASES[1:], *CEILINGS),
        proved=True,
    ),
    Scenario(
        "shared",
        "4 events, wrk; server and client share both cores",
        "shared",
        "wrk",
        4,
        (*SQLITE, "sqlite-commit-each", "memory-1", "memory-2", *PHASES, *CEILINGS),
    ),
    Scenario(
        "autocannon",
        "4 events, autocannon, as the original was measured; both cores shared",
        "shared",
        "autocannon",
        4,
        (*SQLITE, "memory-2", *PHASES, "actix", "nginx"),
    ),
    Scenario("hot-event", "One hot event, wrk; both cores shared", "shared", "wrk", 1, (*SQLITE, *PHASES)),
    Scenario("1000-events", "1,000 events, wrk; both cores shared", "shared", "wrk", 1000, (*SQLITE, *PHASES)),
    Scenario(
        "pipelined",
        "4 events, wrk, pipelined by 10; the server on one core, the client on the other",
        "pinned",
        "wrk",
        4,
        ("sqlite-1", "memory-1", *CEILINGS),
        pipelined=10,
    ),
    Scenario(
        "slow-sync-1ms",
        "4 events, wrk, each disk sync 1 ms slower; both cores shared",
        "shared",
        "wrk",
        4,
        SYNCED,
        slow_sync_us=1000,
    ),
    Scenario(
        "slow-sync-5ms",
        "4 events, wrk, each disk sync 5 ms slower; both cores shared",
        "shared",
        "wrk",
        4,
        SYNCED,
        slow_sync_us=5000,
        proved=True,
    ),
    Scenario(
        "rate-2000",
        "4 events, oha, 2,000 requests a second; both cores shared",
        "shared",
        "oha",
        4,
        (*SQLITE, "sqlite-commit-each", "memory-2", *PHASES),
        per_second=2000,
    ),
    Scenario(
        "rate-10000",
        "4 events, oha, 10,000 requests a second; both cores shared",
        "shared",
        "oha",
        4,
        (*SQLITE, "memory-2", *PHASES[2:]),
        per_second=10_000,
    ),
    Scenario(
        "rate-40000",
        "4 events, oha, 40,000 requests a second, about half of what one core can; the server on one core, the client on the other",
        "pinned",
        "oha",
        4,
        ("sqlite-1", "memory-1", "memory-lock"),
        per_second=40_000,
    ),
]

# The contenders of --quick, so that CI runs each kind of contender and each tool once.
QUICK = {
    "pinned": ("sqlite-1", "memory-1", "memory-lock", "postgres", "postgres-redis", "actix", "nginx"),
    "autocannon": ("sqlite-2",),
    "slow-sync-5ms": ("sqlite-2", "postgres-batched-synced"),
    "rate-2000": ("sqlite-2",),
}
