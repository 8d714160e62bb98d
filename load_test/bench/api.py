"""The calls of the HTTP API around a load: accounts, tokens, events, and what was sold of them."""

from __future__ import annotations

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Sequence
from urllib.parse import quote, urlsplit

PASSWORD = "correct horse battery"
ORGANIZER = "organizer"
QUOTA = 10_000_000

# Of a list.
PAGE_MAX = 100

# Passwords are checked by few threads behind a bounded queue.
CLIENTS = 4
TIMEOUT_SECONDS = 30.0
# A contender may have work in its queues.
SETTLE_SECONDS_MAX = 60.0


class ApiError(Exception):
    """A call that was answered otherwise than it should have been."""


@dataclass(frozen=True)
class Event:
    quota: int
    reserved: int


class Client:
    """One connection, kept alive, for one thread."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)
        self._token = token

    def call(self, method: str, path: str, body: dict | None = None, absent: int | None = None) -> dict | None:
        """The answer's JSON; None for the status `absent`. 503, where nothing was done, is tried again."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            self._connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = self._connection.getresponse()
            text = response.read().decode()
            if response.status != 503 or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if response.status == absent:
            return None
        if response.status >= 300:
            raise ApiError(f"{method} {path}: {response.status} {text[:500]}")
        return json.loads(text) if text else None

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True)
class Accounts:
    """Tokens: of the organizer of all events, and of the customers."""

    organizer: str
    customers: list[str]


def populate(url: str, customer_count: int, quotas: Sequence[int]) -> tuple[Accounts, list[int]]:
    """Registers and logs in an organizer and customers, and makes an event for each quota. Returns the events' ids."""
    local = threading.local()

    def client() -> Client:
        if not hasattr(local, "client"):
            local.client = Client(url)
        return local.client

    def token(username: str, role: str) -> str:
        account = {"username": username, "password": PASSWORD}
        client().call("POST", "/api/v1/users", {**account, "role": role})
        return client().call("POST", "/api/v1/sessions", account)["token"]

    organizer = token(ORGANIZER, "organizer")
    maker = Client(url, organizer)
    events = [
        maker.call("POST", "/api/v1/events", {"name": f"Event {number}", "quota": quota})["id"]
        for number, quota in enumerate(quotas, start=1)
    ]
    maker.close()
    with ThreadPoolExecutor(CLIENTS) as pool:
        customers = list(pool.map(lambda number: token(f"customer-{number:04}", "customer"), range(customer_count)))
    return Accounts(organizer, customers), events


def count_listed(url: str, event: int, organizer: str) -> int:
    """The tickets in the event's list of reservations that are not cancelled; none of an event that is not there.

    Unlike the event's own counter, these are what customers have.
    """
    client = Client(url, organizer)
    try:
        # Open to anyone: the organizer's account may be gone, too.
        if client.call("GET", f"/api/v1/events/{event}", absent=404) is None:
            return 0
        listed, after = 0, ""
        while after is not None:
            page = client.call("GET", f"/api/v1/events/{event}/reservations?limit={PAGE_MAX}{after}")
            listed += sum(one["quantity"] for one in page["items"] if one["status"] == "confirmed")
            after = f"&after={quote(page['next'])}" if page["next"] else None
        return listed
    finally:
        client.close()


def read_events(url: str, events: Sequence[int]) -> dict[int, Event | None]:
    """What is sold of each event; None for one that is not there."""
    client = Client(url)
    try:
        found = {}
        for event in events:
            answer = client.call("GET", f"/api/v1/events/{event}", absent=404)
            found[event] = Event(answer["quota"], answer["reserved"]) if answer else None
        return found
    finally:
        client.close()


def read_settled_events(url: str, events: Sequence[int]) -> dict[int, Event | None]:
    """Read until two readings agree: what was under way when a load ended may still be carried out."""
    before = read_events(url, events)
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while time.monotonic() < deadline:
        time.sleep(0.1)
        after = read_events(url, events)
        if after == before:
            return after
        before = after
    raise ApiError(f"sales still change {SETTLE_SECONDS_MAX:.0f} s after the load ended")
