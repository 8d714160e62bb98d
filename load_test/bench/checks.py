"""Conditions that must hold after every load, and the reservations left after `kill -9`."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Mapping

from . import api, load
from .api import Event
from .contenders import SCARCE_QUOTA, Contender, Setup, Stand
from .load import Load
from .scenarios import CONNECTIONS, Layout

# The duration of a load before the kill: long enough to open connections and make commits.
SECONDS_BEFORE_KILL = 0.7
# The nominal duration of that load; wrk is interrupted as soon as the server is killed.
KILLED_LOAD_SECONDS = 10
SELL_OUT_SECONDS = 1
# Loaded when it is killed.
EVENTS = 4

Events = Mapping[int, Event | None]


@dataclass(frozen=True)
class Killed:
    """The result of `kill -9` of all processes of a contender under load."""

    # The reservations answered 201, and those of them that exist after the restart.
    acknowledged: int
    recorded: int
    # The ids that two customers got.
    repeated: int
    restart_seconds: float

    @property
    def lost(self) -> int:
        return self.acknowledged - self.recorded

    def as_json(self) -> dict:
        return {**asdict(self), "lost": self.lost}


def reserved(events: Events) -> int:
    """The tickets sold of all events; a missing event counts as 0."""
    return sum(event.reserved for event in events.values() if event)


def violations(before: Events, after: Events, seen: Load, under_way_max: int, *, sold_out: bool = False) -> list[str]:
    """Returns the violations, a sentence each.

    `under_way_max`: the maximum number of requests carried out without a counted response.
    `sold_out`: whether responses other than 201 are expected, because tickets ran out.
    """
    found = []
    for number, event in after.items():
        if event is None:
            found.append(f"event {number} is gone")
        elif event.reserved > event.quota:
            found.append(f"event {number} is oversold: {event.reserved} of {event.quota}")
    recorded = reserved(after) - reserved(before)
    if recorded < seen.created:
        found.append(f"{seen.created} reservations were answered 201, only {recorded} are recorded")
    if recorded > seen.created + under_way_max:
        found.append(f"{recorded} are recorded, but {seen.created} were answered 201 and at most {under_way_max} not")
    if seen.refused and not sold_out:
        refused = ", ".join(f"{status}: {count}" for status, count in seen.refused.items())
        found.append(f"answers other than 201 while there were tickets: {refused}")
    if seen.errors:
        found.append(f"{seen.errors} requests failed or timed out")
    if seen.created == 0:
        found.append("not one reservation was made")
    return found


def sell_out(stand: Stand, layout: Layout, directory: Path) -> list[str]:
    """Checks that many concurrent requests for the last tickets of an event sell exactly these."""
    requests = directory / "scarce.requests"
    event = stand.stock.scarce_event
    load.write_requests(requests, stand.stock.accounts.customers, [event])
    before = api.read_settled_events(stand.url, [event])
    seen = load.wrk(
        stand.url,
        requests,
        seconds=SELL_OUT_SECONDS,
        connections=CONNECTIONS,
        cpus=layout.client,
        look=True,
    )
    after = api.read_settled_events(stand.url, [event])
    found = violations(before, after, seen, CONNECTIONS, sold_out=True)
    unexpected = {status: count for status, count in seen.refused.items() if status != "409"}
    if unexpected:
        found.append(f"answers that are neither 201 nor 409: {unexpected}")
    if "409" in seen.refused and reserved(after) < SCARCE_QUOTA:
        found.append(f'"sold out" was answered, but {SCARCE_QUOTA - reserved(after)} tickets are left')
    return found


def kill_in_the_middle(contender: Contender, setup: Setup, stand: Stand, layout: Layout) -> tuple[Killed, Stand]:
    """Loads, kills and restarts a contender, and looks up each reservation that was answered 201.

    Also returns the restarted contender.
    """
    requests = setup.directory / "killed.requests"
    load.write_requests(requests, stand.stock.accounts.customers, stand.stock.events[:EVENTS])
    wrk = load.Wrk(
        stand.url,
        requests,
        seconds=KILLED_LOAD_SECONDS,
        connections=CONNECTIONS,
        cpus=layout.client,
        look=True,
    )
    time.sleep(SECONDS_BEFORE_KILL)
    contender.kill(stand)
    wrk.interrupt()
    wrk.finish()
    made = wrk.made()
    if not made:
        raise load.LoadError("no reservation was made before the kill")
    start = time.monotonic()
    again = contender.restart(setup, stand)
    took = time.monotonic() - start
    recorded = api.count_confirmed(again.url, made, stand.stock.accounts.organizer)
    return Killed(len(made), recorded, len(made) - len(set(made)), took), again
