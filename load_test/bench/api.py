"""The calls of the HTTP API around a load: accounts, tokens, events, and the tickets sold."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Sequence
from urllib.parse import urlsplit

PASSWORD = "correct horse battery"
ORGANIZER = "organizer"
QUOTA = 10_000_000

# The number of requests in one write.
PIPELINED = 50

# The statuses for a missing reservation, and for one whose customer's account is missing too.
ABSENT = (404, 401)

# The number of concurrent registrations, since few threads with a bounded queue hash passwords.
CLIENTS = 4
TIMEOUT_SECONDS = 30.0
# The maximum wait, since a contender may have queued work.
SETTLE_SECONDS_MAX = 60.0


class ApiError(Exception):
    """An unexpected response to a call."""


@dataclass(frozen=True)
class Event:
    quota: int
    reserved: int


class Client:
    """A keep-alive connection, for use by one thread."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)
        self._token = token

    def call(self, method: str, path: str, body: dict | None = None, absent: int | None = None) -> dict | None:
        """Returns the JSON of the response; None for the status `absent`. Retries after a 503."""
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
    """The tokens of the organizer of all events and of the customers."""

    organizer: str
    customers: list[str]


def populate(url: str, customer_count: int, quotas: Sequence[int]) -> tuple[Accounts, list[int]]:
    """Registers and logs in an organizer and customers, and creates an event per quota. Returns the event ids."""
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


def count_confirmed(url: str, reservations: Sequence[str], token: str) -> int:
    """Counts the reservations that exist and are not cancelled. The account of `token` may read them.

    Pipelines the requests, since there may be a hundred thousand.
    """
    address = urlsplit(url)
    confirmed = 0
    with socket.create_connection((address.hostname, address.port), timeout=TIMEOUT_SECONDS) as connection:
        answers = connection.makefile("rb")
        for first in range(0, len(reservations), PIPELINED):
            some = reservations[first : first + PIPELINED]
            request = "GET /api/v1/reservations/{} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n"
            connection.sendall("".join(request.format(one, address.netloc, token) for one in some).encode())
            for one in some:
                status, body = _read_answer(answers)
                if status == 200:
                    confirmed += json.loads(body)["status"] == "confirmed"
                elif status not in ABSENT:
                    raise ApiError(f"GET /api/v1/reservations/{one}: {status} {body[:500]!r}")
    return confirmed


def _read_answer(answers) -> tuple[int, bytes]:
    """Reads the next of several responses, each with a Content-Length. Returns its status and body."""
    line = answers.readline()
    if not line.startswith(b"HTTP/1.1 "):
        raise ApiError(f"a response begins with {line!r}")
    status = int(line.split()[1])
    headers = http.client.parse_headers(answers)
    return status, answers.read(int(headers["Content-Length"]))


def read_events(url: str, events: Sequence[int]) -> dict[int, Event | None]:
    """The tickets sold of each event; None for a missing event."""
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
    """Reads until two readings agree, since requests in flight at the end of a load may still be carried out."""
    before = read_events(url, events)
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while time.monotonic() < deadline:
        time.sleep(0.1)
        after = read_events(url, events)
        if after == before:
            return after
        before = after
    raise ApiError(f"sales still change {SETTLE_SECONDS_MAX:.0f} s after the load ended")
