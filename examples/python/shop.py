"""A small shop on boxoffice. Its customers hold tickets, pay, and get them; it follows how many are left, and
keeps its books from the event's changes. Then it proves that its ledger is what the server has.

    SHOP_KEY=box_... python shop.py        (see ../README.md)

Python 3.11 or later; httpx (requirements.txt).
"""

import asyncio
import itertools
import json
import os
import random
import re
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field

import httpx

SERVER = os.environ.get("SHOP_SERVER", "http://127.0.0.1:9092")
BUYERS = int(os.environ.get("SHOP_BUYERS", "300"))

# --- Requests: a time-out for each attempt, and the same request again until there is an answer.

# An attempt without an answer after this time is given up, and made again.
TIMEOUT_S = 2
# After this time a request fails. Its purchase stays open in the ledger, to be sent again with the same key.
GIVE_UP_S = 60

seen = Counter()


async def send(http, bearer, method, path, *, body=None, key=None, accept="application/json", wait=0):
    """Sends a request and returns the response, whatever its status.

    `key` is the Idempotency-Key: with it, the request takes effect once, however often it is sent. `wait` is how
    long the server may wait before it answers.
    """
    headers = {"Accept": accept}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    if key:
        headers["Idempotency-Key"] = f'"{key}"'
    # What only reads or deletes can be sent twice. What makes something needs the key.
    repeatable = method != "POST" or key is not None
    until = time.monotonic() + GIVE_UP_S + wait
    for attempt in itertools.count():
        # Random, so that all those whom a fault sent away do not come back at the same moment.
        pause = random.uniform(0, min(2, 0.1 * 2**min(attempt, 10)))
        try:
            # httpx limits each step, such as a read; this limits the whole attempt.
            async with asyncio.timeout(TIMEOUT_S + wait):
                response = await http.request(method, path, headers=headers, json=body)
            if response.status_code in (502, 504):
                raise httpx.RemoteProtocolError(f"a proxy answered {response.status_code}")
            # 429, 503 and 507: nothing was done, so every request can be sent again.
            if response.status_code not in (429, 503, 507):
                seen["replayed"] += "Idempotent-Replayed" in response.headers
                return response
            pause += float(response.headers.get("Retry-After", 1))
            why = response.text
        except (httpx.TransportError, TimeoutError) as error:
            # No answer: the request may have been done.
            if not repeatable:
                raise
            why = error
        if time.monotonic() + pause > until:
            raise RuntimeError(f"{method} {path} has no answer: {why!r}")
        seen["again"] += 1
        await asyncio.sleep(pause)


async def must(status, http, bearer, method, path, **options):
    """Sends a request that has to have this status."""
    response = await send(http, bearer, method, path, **options)
    assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
    return response


def problem(response):
    """The end of a problem's `type`, such as `sold-out`: programs decide by it, since titles and details may change."""
    return response.json()["type"].removeprefix("/problems/")


# --- A purchase: hold, pay, confirm.

# A shop gives its customers some minutes. This is the least there is, so that one of this run is too late.
HOLD_SECONDS = 10


@dataclass
class Purchase:
    """As it is before its first request. A real shop writes it to its database then, with its key."""

    ref: str
    quantity: int
    # How the stand-in of a payment provider behaves.
    declined: bool
    payment_seconds: float
    key: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str = "open"
    reservation: str | None = None

    def decide(self, state, reservation=None):
        self.state, self.reservation = state, reservation


class Payments:
    """Stands in for a payment provider, which charges a key once."""

    @staticmethod
    async def charge(purchase):
        await asyncio.sleep(purchase.payment_seconds)
        return "declined" if purchase.declined else "paid"

    @staticmethod
    async def refund(purchase):
        pass


class Shop:
    def __init__(self, http, key, event):
        self.http, self.key, self.event = http, key, event
        self.ledger = []
        self.availability = None
        # The books: position of the last change, holds, and what was sold, by reservation.
        self.position, self.holds, self.sold = 0, {}, {}

    def send(self, method, path, **options):
        return send(self.http, self.key, method, path, **options)

    def must(self, status, method, path, **options):
        return must(status, self.http, self.key, method, path, **options)

    async def buy(self, purchase):
        """Works on a purchase until it is decided. Each step can be repeated: the key counts for its path."""
        key, event = purchase.key, f"/api/v1/events/{self.event}"
        tickets = {"quantity": purchase.quantity, "customer_ref": purchase.ref}
        hold = await self.send("POST", f"{event}/holds", key=key, body={**tickets, "ttl_seconds": HOLD_SECONDS})
        if hold.status_code == 409:
            return purchase.decide(problem(hold))
        assert hold.status_code == 201, hold.text
        held = hold.json()["id"]

        if await Payments.charge(purchase) == "declined":
            # Gives the tickets back at once. Without it, they would be for sale again when the hold ends.
            await self.must(204, "DELETE", f"/api/v1/holds/{held}")
            return purchase.decide("declined")
        confirmed = await self.send("POST", f"/api/v1/holds/{held}/confirm", key=key)
        if confirmed.status_code == 200:
            return purchase.decide("sold", held)
        assert problem(confirmed) == "hold-expired", confirmed.text

        # The customer has paid, and the hold is over. There may be other tickets; otherwise the money goes back.
        late = await self.send("POST", f"{event}/reservations", key=key, body=tickets)
        if late.status_code == 201:
            return purchase.decide("sold late", late.json()["id"])
        assert late.status_code == 409, late.text
        await Payments.refund(purchase)
        purchase.decide("refunded")

    async def give_back(self, purchase):
        """A customer gives the tickets of a purchase back."""
        await self.must(204, "DELETE", f"/api/v1/reservations/{purchase.reservation}")
        await Payments.refund(purchase)
        purchase.decide("given back")

    # --- What the shop follows.

    async def follow_availability(self):
        """Keeps `availability`, for the shop's page."""
        last_id = None
        # A stream sends at least a comment every 16 seconds: after 40 it is dead, though nobody said so.
        timeout = httpx.Timeout(TIMEOUT_S, read=40)
        path = f"/api/v1/events/{self.event}/availability/stream"
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                async with self.http.stream("GET", path, headers=headers, timeout=timeout) as response:
                    if response.status_code == 410:
                        return
                    message = {}
                    async for line in response.aiter_lines():
                        if response.status_code != 200:
                            break
                        if found := re.match(r"(\w+): ?(.*)", line):
                            message[found[1]] = found[2]
                        elif line == "":
                            if message.get("event") == "deleted":
                                return
                            if "data" in message:
                                self.availability = json.loads(message["data"])
                            last_id = message.get("id", last_id)
                            message = {}
            except httpx.TransportError:
                pass  # It broke off. The next one begins with what has changed since the last id.
            await asyncio.sleep(random.uniform(0.2, 1))

    async def follow_changes(self):
        """Keeps the shop's books: what was decided about its event, record by record, whoever sold the tickets."""
        while True:
            path = f"/api/v1/events/{self.event}/changes?after={self.position}&limit=100&wait=20"
            page = await self.must(200, "GET", path, wait=20)
            for change in page.json()["items"]:
                assert change["previous"] == self.position, "a change is missing"
                self.enter(change)
                self.position = change["position"]

    def enter(self, change):
        match change:
            case {"kind": "held", "reservation": id, "customer_ref": ref, "quantity": quantity}:
                self.holds[id] = (ref, quantity)
            case {"kind": "reserved", "reservation": id, "customer_ref": ref, "quantity": quantity}:
                self.sold[id] = (ref, quantity)
            case {"kind": "confirmed", "reservation": id}:
                ref, quantity = self.holds.pop(id)
                self.sold[id] = (ref, quantity - change.get("given_back", 0))
            case {"kind": "released", "reservation": id}:
                del self.holds[id]
            case {"kind": "cancelled", "reservation": id}:
                del self.sold[id]
            # Later versions have more kinds. Of those that there are, this shop causes no others but `holds_expired`,
            # and a hold that is over is sold to nobody.


# --- The run: a shop opens, sells out, and compares.


async def key_of_shop(http):
    """A key of the environment; or an admin's name and password, with which the shop makes its organizer and key."""
    if key := os.environ.get("SHOP_KEY"):
        return key

    async def log_in(username, password):
        body = {"username": username, "password": password}
        return (await must(201, http, None, "POST", "/api/v1/sessions", body=body)).json()["token"]

    organizer = {"username": f"shop-{str(uuid.uuid4())[:13]}", "password": str(uuid.uuid4())}
    admin = await log_in(os.environ["SHOP_ADMIN"], os.environ["SHOP_ADMIN_PASSWORD"])
    await must(201, http, admin, "POST", "/api/v1/users", body={**organizer, "role": "organizer"})
    body = {"name": "Shop", "scopes": ["events:read", "events:write", "sell"]}
    return (await must(201, http, await log_in(**organizer), "POST", "/api/v1/keys", body=body)).json()["secret"]


async def sell_out(shop):
    # Some payments are declined, and some are slow.
    for number in range(BUYERS):
        seconds = 1.5 if random.random() < 0.1 else random.uniform(0, 0.1)
        ref, declined = f"customer-{number % 100}", random.random() < 0.1
        shop.ledger.append(Purchase(ref, random.randint(1, 4), declined, seconds))
    queue = iter(list(shop.ledger))

    async def till():
        for customer in queue:
            await shop.buy(customer)

    async with asyncio.TaskGroup() as tills:
        for _ in range(20):
            tills.create_task(till())

    # One customer gives tickets back, and the next one pays after the hold has ended.
    first = next(purchase for purchase in shop.ledger if purchase.state == "sold")
    await shop.give_back(first)
    shop.ledger.append(Purchase("customer-late", first.quantity, False, HOLD_SECONDS + 1))
    await shop.buy(shop.ledger[-1])


async def prove(shop):
    """Compares the shop's ledger with the server's list, with the books, and with what is left."""
    path = f"/api/v1/events/{shop.event}"
    now = (await shop.must(200, "GET", f"{path}/availability")).json()
    async with asyncio.timeout(30):
        while shop.position < now["position"] or (shop.availability or now)["position"] < now["position"]:
            await asyncio.sleep(0.02)
    assert shop.availability == now, f"the stream's last message: {shop.availability}, and not {now}"

    path = f"{path}/reservations?status=confirmed"
    listed = await shop.must(200, "GET", path, accept="application/x-ndjson")
    items = [json.loads(line) for line in listed.text.splitlines()]
    on_server = sorted((item["id"], item["customer_ref"], item["quantity"]) for item in items)
    paid = [purchase for purchase in shop.ledger if purchase.reservation]
    in_ledger = sorted((purchase.reservation, purchase.ref, purchase.quantity) for purchase in paid)
    in_books = sorted((id, ref, quantity) for id, (ref, quantity) in shop.sold.items())
    for name, others in {"the server's list": on_server, "the books": in_books}.items():
        lost, more = set(in_ledger) - set(others), set(others) - set(in_ledger)
        assert others == in_ledger, f"{name} and the ledger: {lost} lost, {more} not in the ledger"
    assert all(purchase.state != "open" for purchase in shop.ledger), "every purchase is decided"
    tickets = sum(purchase.quantity for purchase in paid)
    assert (now["reserved"], now["held"]) == (tickets, 0), now
    return tickets


async def main():
    limits = httpx.Limits(max_connections=30)
    async with httpx.AsyncClient(base_url=SERVER, timeout=None, limits=limits) as http:
        key = await key_of_shop(http)
        # Fewer tickets than are wanted.
        details = {"name": "An evening in the shop", "quota": int(1.8 * BUYERS), "max_per_customer": 8}
        made = await must(201, http, key, "POST", "/api/v1/events", key=str(uuid.uuid4()), body=details)
        shop = Shop(http, key, made.json()["id"])
        print(f"event: {shop.event}", flush=True)

        async with asyncio.TaskGroup() as group:
            followers = [group.create_task(shop.follow_availability()), group.create_task(shop.follow_changes())]
            await sell_out(shop)
            tickets = await prove(shop)
            for follower in followers:
                follower.cancel()

    for state, purchases in Counter(purchase.state for purchase in shop.ledger).items():
        print(f"purchases {state}: {purchases}")
    print(f"requests sent again: {seen['again']}")
    print(f"answers replayed: {seen['replayed']}")
    print(f"tickets sold: {tickets}, none lost, none twice")


asyncio.run(main())
