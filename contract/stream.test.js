// Follows a sale in a browser's EventSource while the server is killed and started again on the
// same port: it reconnects by itself, ids rise, and it comes to know the last state. A deleted
// event ends its attempts.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { test } from "node:test";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright-core";

const program = process.env.BOXOFFICE;
assert(program, "set BOXOFFICE to the program");

/** Starts a demonstration server; returns its process and address. */
async function start(directory, listen, shards) {
  const options = ["--demo", "--data", directory, "--listen", listen, "--shards", shards];
  const server = spawn(program, ["serve", ...options], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: server.stdout })) {
    const listening = line.match(/ listening on (http:[^,]*),/);
    if (listening) return { server, address: listening[1] };
  }
  throw new Error("the server ended before it was ready");
}

async function end(server, signal) {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const ended = once(server, "exit");
  server.kill(signal);
  await ended;
}

/** Waits until the page's expression, a function of its argument, is true. */
const until = (page, expression, argument) =>
  page.waitForFunction(expression, argument, { timeout: 60_000, polling: 50 });

test("EventSource follows a sale through restarts without a gap", { timeout: 300_000 }, async (t) => {
  const directory = await mkdtemp(`${process.env.DIRECTORY ?? "/tmp"}/stream-`);
  t.after(() => rm(directory, { recursive: true, force: true }));
  let { server, address } = await start(`${directory}/data`, "127.0.0.1:0", "2");
  t.after(() => end(server, "SIGKILL"));
  const { host } = new URL(address);
  assert([200, 304].includes((await fetch(`${address}/api/v1/pop`)).status));

  const tokens = {};
  const call = async (user, method, path, body, status) => {
    const headers = { "Content-Type": "application/json" };
    if (tokens[user]) headers.Authorization = `Bearer ${tokens[user]}`;
    const answer = await fetch(`${address}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
    assert.equal(answer.status, status, `${method} ${path}`);
    return answer.status === 204 ? null : answer.json();
  };
  for (const username of ["cust1", "org1"]) {
    const session = await call(null, "POST", "/sessions", { username, password: "boxoffice-demo" }, 201);
    tokens[username] = session.token;
  }
  const { id: event } = await call("org1", "POST", "/events", { name: "An evening", quota: 1000 }, 201);
  const sell = () => call("cust1", "POST", `/events/${event}/reservations`, { quantity: 1 }, 201);
  const truth = () => call(null, "GET", `/events/${event}/availability`, undefined, 200);

  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
  t.after(() => browser.close());
  const page = await browser.newPage();
  // Of the same origin, as a shop's own page is.
  await page.goto(`${address}/problems`);
  await page.evaluate((path) => {
    const seen = { messages: [], opened: 0, errors: 0, deleted: null };
    const source = new EventSource(path);
    source.onopen = () => (seen.opened += 1);
    source.onerror = () => (seen.errors += 1);
    source.onmessage = ({ data, lastEventId }) => seen.messages.push({ ...JSON.parse(data), id: lastEventId });
    source.addEventListener("deleted", ({ data }) => (seen.deleted = JSON.parse(data)));
    Object.assign(window, { seen, source });
  }, `/api/v1/events/${event}/availability/stream`);
  const knows = ({ position }) => until(page, (last) => window.seen.messages.at(-1)?.position === last, position);
  await knows(await truth());

  const rounds = [
    { signal: "SIGKILL", shards: "3", sells: true },
    { signal: "SIGTERM", shards: "2", sells: true },
    // Nothing has changed meanwhile, and the next sale is told all the same.
    { signal: "SIGKILL", shards: "1", sells: false },
  ];
  for (const [index, { signal, shards, sells }] of rounds.entries()) {
    for (let sale = 0; sale < 20; sale += 1) await sell();
    await knows(await truth());
    const before = await page.evaluate(() => window.seen.messages.length);
    await end(server, signal);
    ({ server } = await start(`${directory}/data`, host, shards));
    // Most come before the browser does.
    if (sells) for (let sale = 0; sale < 5; sale += 1) await sell();
    await until(page, (opened) => window.seen.opened === opened, index + 2);
    if (sells) {
      await knows(await truth());
    } else {
      assert.equal(await page.evaluate(() => window.seen.messages.length), before, "nothing was told twice");
    }
    await sell();
    await knows(await truth());
  }

  const { messages } = await page.evaluate(() => window.seen);
  const last = await truth();
  for (const [index, message] of messages.entries()) {
    assert.equal(message.id, String(message.position));
    assert.equal(message.quota, message.reserved + message.held + message.remaining);
    if (index === 0) continue;
    assert(message.position > messages[index - 1].position, "ids rise");
    assert(message.reserved > messages[index - 1].reserved, "each is a later state of the sale");
  }
  const { id, ...state } = messages.at(-1);
  assert.deepEqual(state, last);

  await call("org1", "DELETE", `/events/${event}?force=true`, undefined, 204);
  await until(page, () => window.seen.deleted !== null);
  assert.deepEqual(await page.evaluate(() => window.seen.deleted), { event });
  // It comes back once, and 410 ends its attempts.
  await until(page, () => window.source.readyState === EventSource.CLOSED);
  const opened = await page.evaluate(() => window.seen.opened);
  await sleep(4_000);
  assert.equal(await page.evaluate(() => window.seen.opened), opened, "it comes back no more");
});
