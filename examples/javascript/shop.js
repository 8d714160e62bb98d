// A small shop on boxoffice. Its customers hold tickets, pay, and get them; it follows how many are left, and
// keeps its books from the event's changes. Then it proves that its ledger is what the server has.
//
//     SHOP_KEY=box_... node shop.js        (see ../README.md)
//
// Node 20.3 or later; no packages.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const SERVER = process.env.SHOP_SERVER ?? "http://127.0.0.1:9092";
const BUYERS = Number(process.env.SHOP_BUYERS ?? 300);

// --- Requests: a time-out for each attempt, and the same request again until there is an answer.

/** An attempt without an answer after this time is given up, and made again. */
const TIMEOUT_MS = 2_000;

/** After this time a request fails. Its purchase stays open in the ledger, to be sent again with the same key. */
const GIVE_UP_MS = 60_000;

const seen = { again: 0, replayed: 0 };

/**
 * Sends a request and returns `{ status, text, body }`.
 * `key` is the Idempotency-Key: with it, the request takes effect once, however often it is sent. `wait` is how long
 * the server may wait before it answers, and `stop` ends the wait.
 */
async function send(bearer, method, path, { body, key, accept, wait = 0, stop } = {}) {
  const headers = { Accept: accept ?? "application/json" };
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  if (key) headers["Idempotency-Key"] = `"${key}"`;
  if (body) headers["Content-Type"] = "application/json";
  // What only reads or deletes can be sent twice. What makes something needs the key.
  const repeatable = method !== "POST" || key !== undefined;
  const until = Date.now() + GIVE_UP_MS + wait;
  for (let attempt = 0; ; attempt += 1) {
    // Random, so that all those whom a fault sent away do not come back at the same moment.
    let pause = Math.random() * Math.min(2_000, 100 * 2 ** attempt);
    let why;
    try {
      const signal = AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS + wait), ...(stop ? [stop] : [])]);
      const response = await fetch(SERVER + path, { method, headers, body: body && JSON.stringify(body), signal });
      const text = await response.text();
      const { status } = response;
      if (status === 502 || status === 504) throw new Error(`a proxy answered ${status}`);
      // 429, 503 and 507: nothing was done, so every request can be sent again.
      if (![429, 503, 507].includes(status)) {
        if (response.headers.has("Idempotent-Replayed")) seen.replayed += 1;
        const isJson = /^application\/(problem\+)?json/.test(response.headers.get("Content-Type"));
        return { status, text, body: isJson ? JSON.parse(text) : undefined };
      }
      pause += 1_000 * Number(response.headers.get("Retry-After") ?? 1);
      why = text;
    } catch (error) {
      // No answer: the request may have been done.
      if (!repeatable || stop?.aborted) throw error;
      why = error;
    }
    if (Date.now() + pause > until) throw new Error(`${method} ${path} has no answer: ${why}`);
    seen.again += 1;
    await sleep(pause);
  }
}

/** Sends a request that has to have this status. */
async function must(status, bearer, method, path, options) {
  const answer = await send(bearer, method, path, options);
  assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
  return answer;
}

/** The end of a problem's `type`, such as `sold-out`: programs decide by it, since titles and details may change. */
const problem = ({ body }) => body.type.replace("/problems/", "");

// --- A purchase: hold, pay, confirm.

/** A shop gives its customers some minutes. This is the least there is, so that one of this run is too late. */
const HOLD_SECONDS = 10;

/** Stands in for a payment provider, which charges a key once. */
const payments = {
  async charge({ payment }) {
    await sleep(payment.ms);
    return payment.declined ? "declined" : "paid";
  },
  async refund() {},
};

/** A purchase as it is before its first request. A real shop writes it to its database here, with its key. */
function purchase(ref, quantity, payment) {
  const made = { key: randomUUID(), ref, quantity, payment, state: "open", reservation: null };
  shop.ledger.push(made);
  return made;
}

/** Works on a purchase until it is decided. Each step can be repeated: the key counts for its path. */
async function buy(purchase) {
  const { key, ref, quantity } = purchase;
  const { bearer, event } = shop;
  const tickets = { quantity, customer_ref: ref };
  const hold = await send(bearer, "POST", `/api/v1/events/${event}/holds`, {
    key,
    body: { ...tickets, ttl_seconds: HOLD_SECONDS },
  });
  if (hold.status === 409) return decide(purchase, problem(hold));
  assert.equal(hold.status, 201, hold.text);

  if ((await payments.charge(purchase)) === "declined") {
    // Gives the tickets back at once. Without it, they would be for sale again when the hold ends.
    await must(204, bearer, "DELETE", `/api/v1/holds/${hold.body.id}`);
    return decide(purchase, "declined");
  }
  const confirmed = await send(bearer, "POST", `/api/v1/holds/${hold.body.id}/confirm`, { key });
  if (confirmed.status === 200) return decide(purchase, "sold", hold.body.id);
  assert.equal(problem(confirmed), "hold-expired", confirmed.text);

  // The customer has paid, and the hold is over. There may be other tickets; otherwise the money goes back.
  const late = await send(bearer, "POST", `/api/v1/events/${event}/reservations`, { key, body: tickets });
  if (late.status === 201) return decide(purchase, "sold late", late.body.id);
  assert.equal(late.status, 409, late.text);
  await payments.refund(purchase);
  return decide(purchase, "refunded");
}

/** A customer gives the tickets of a purchase back. */
async function giveBack(purchase) {
  await must(204, shop.bearer, "DELETE", `/api/v1/reservations/${purchase.reservation}`);
  await payments.refund(purchase);
  decide(purchase, "given back");
}

function decide(purchase, state, reservation = null) {
  Object.assign(purchase, { state, reservation });
}

// --- What the shop follows.

/** The lines of a body, as they come. */
async function* lines(body) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const whole = (rest + text).split("\n");
    rest = whole.pop();
    yield* whole;
  }
}

/** A stream sends at least a comment every 16 seconds: after this time it is dead, though nobody said so. */
const SILENCE_MS = 40_000;

/** Keeps `shop.availability`, for the shop's page. (In a browser, EventSource does all of this.) */
async function followAvailability(stop) {
  let lastId;
  while (!stop.aborted) {
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), SILENCE_MS);
    try {
      const response = await fetch(`${SERVER}/api/v1/events/${shop.event}/availability/stream`, {
        headers: lastId ? { "Last-Event-ID": lastId } : {},
        signal: AbortSignal.any([stop, silence.signal]),
      });
      if (response.status === 410) return;
      let message = {};
      for await (const line of response.ok ? lines(response.body) : []) {
        timer.refresh();
        const [, name, value] = line.match(/^(\w+): ?(.*)$/) ?? [];
        if (name) {
          message[name] = value;
        } else if (line === "") {
          if (message.event === "deleted") return;
          if (message.data) shop.availability = JSON.parse(message.data);
          lastId = message.id ?? lastId;
          message = {};
        }
      }
    } catch {
      // It broke off. The next one begins with what has changed since the last id.
    }
    clearTimeout(timer);
    if (!stop.aborted) await sleep(200 + Math.random() * 800);
  }
}

/** Keeps the shop's books: what was decided about its event, record by record, whoever sold the tickets. */
async function followChanges(stop) {
  const { books } = shop;
  while (!stop.aborted) {
    const path = `/api/v1/events/${shop.event}/changes?after=${books.position}&limit=100&wait=20`;
    const page = await must(200, shop.bearer, "GET", path, { wait: 20_000, stop }).catch((error) => {
      if (!stop.aborted) throw error;
    });
    for (const change of page?.body.items ?? []) {
      assert.equal(change.previous, books.position, "a change is missing");
      enter(books, change);
      books.position = change.position;
    }
  }
}

function enter({ holds, sold }, { kind, reservation, customer_ref: ref, quantity, given_back = 0 }) {
  if (kind === "held") holds.set(reservation, { ref, quantity });
  if (kind === "reserved") sold.set(reservation, { ref, quantity });
  if (kind === "confirmed") {
    const hold = holds.get(reservation);
    sold.set(reservation, { ...hold, quantity: hold.quantity - given_back });
  }
  if (["confirmed", "released"].includes(kind)) holds.delete(reservation);
  if (kind === "cancelled") sold.delete(reservation);
  // Later versions have more kinds. Of those that there are, this shop causes no others but `holds_expired`, and a
  // hold that is over is sold to nobody.
}

// --- The run: a shop opens, sells out, and compares.

const shop = {
  bearer: null,
  event: null,
  ledger: [],
  availability: null,
  books: { position: 0, holds: new Map(), sold: new Map() },
};

/** A key of the environment; or an admin's name and password, with which the shop makes its organizer and key. */
async function keyOfShop() {
  const { SHOP_KEY, SHOP_ADMIN, SHOP_ADMIN_PASSWORD } = process.env;
  if (SHOP_KEY) return SHOP_KEY;
  assert(SHOP_ADMIN && SHOP_ADMIN_PASSWORD, "set SHOP_KEY, or SHOP_ADMIN and SHOP_ADMIN_PASSWORD");
  const logIn = async (username, password) =>
    (await must(201, null, "POST", "/api/v1/sessions", { body: { username, password } })).body.token;
  const [username, password] = [`shop-${randomUUID().slice(0, 13)}`, randomUUID()];
  const admin = await logIn(SHOP_ADMIN, SHOP_ADMIN_PASSWORD);
  await must(201, admin, "POST", "/api/v1/users", { body: { username, password, role: "organizer" } });
  const scopes = ["events:read", "events:write", "sell"];
  const organizer = await logIn(username, password);
  return (await must(201, organizer, "POST", "/api/v1/keys", { body: { name: "Shop", scopes } })).body.secret;
}

const random = (below) => Math.floor(Math.random() * below);

async function sellOut() {
  // Some payments are declined, and some are slow.
  const customers = Array.from({ length: BUYERS }, (_, number) => {
    const payment = { declined: random(10) === 0, ms: random(10) === 0 ? 1_500 : random(100) };
    return purchase(`customer-${number % 100}`, 1 + random(4), payment);
  });
  const queue = customers.values();
  const till = async () => {
    for (const customer of queue) await buy(customer);
  };
  await Promise.all(Array.from({ length: 20 }, till));

  // One customer gives tickets back, and the next one pays after the hold has ended.
  const first = shop.ledger.find(({ state }) => state === "sold");
  await giveBack(first);
  await buy(purchase("customer-late", first.quantity, { declined: false, ms: 1_000 * (HOLD_SECONDS + 1) }));
}

const byId = (rows) => rows.sort(([one], [other]) => one.localeCompare(other));

/** Compares the shop's ledger with the server's list, with the books, and with what is left. */
async function prove() {
  const { bearer, event, books } = shop;
  const path = `/api/v1/events/${event}`;
  const { body: now } = await must(200, bearer, "GET", `${path}/availability`);
  const behind = () => books.position < now.position || shop.availability?.position !== now.position;
  for (const until = Date.now() + 30_000; behind(); await sleep(20)) {
    assert(Date.now() < until, "the stream or the changes do not go on");
  }
  assert.deepEqual(shop.availability, now, "the stream's last message");

  const confirmed = `${path}/reservations?status=confirmed`;
  const list = await must(200, bearer, "GET", confirmed, { accept: "application/x-ndjson" });
  const items = list.text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const onServer = byId(items.map(({ id, customer_ref, quantity }) => [id, customer_ref, quantity]));
  const paid = shop.ledger.filter(({ reservation }) => reservation !== null);
  const inLedger = byId(paid.map(({ reservation, ref, quantity }) => [reservation, ref, quantity]));
  assert.deepEqual(onServer, inLedger, "the server's list and the ledger: none lost, none twice");
  const inBooks = byId([...books.sold].map(([id, { ref, quantity }]) => [id, ref, quantity]));
  assert.deepEqual(inBooks, inLedger, "the books and the ledger");
  assert(shop.ledger.every(({ state }) => state !== "open"), "every purchase is decided");
  const tickets = paid.reduce((sum, { quantity }) => sum + quantity, 0);
  assert.deepEqual([now.reserved, now.held], [tickets, 0], "what is reserved and held");
  return tickets;
}

shop.bearer = await keyOfShop();
// Fewer tickets than are wanted.
const details = { name: "An evening in the shop", quota: Math.floor(1.8 * BUYERS), max_per_customer: 8 };
const made = await must(201, shop.bearer, "POST", "/api/v1/events", { key: randomUUID(), body: details });
shop.event = made.body.id;
console.log(`event: ${shop.event}`);

const end = new AbortController();
const followers = Promise.all([followAvailability(end.signal), followChanges(end.signal)]);
const tickets = await Promise.race([sellOut().then(prove), followers]);
end.abort();
await followers;

const states = new Map();
for (const { state } of shop.ledger) states.set(state, (states.get(state) ?? 0) + 1);
for (const [state, purchases] of states) console.log(`purchases ${state}: ${purchases}`);
console.log(`requests sent again: ${seen.again}`);
console.log(`answers replayed: ${seen.replayed}`);
console.log(`tickets sold: ${tickets}, none lost, none twice`);
