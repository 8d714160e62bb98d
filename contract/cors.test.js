// Tests a shop's page in a browser: one of another origin than the server's, which lists events, logs in and
// reserves. The same page of an origin that the server was not told of can do nothing.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { chromium } from "playwright-core";

const address = process.env.ADDRESS;
const shop = process.env.SHOP;
assert(address && shop, "set ADDRESS to the address of the server, SHOP to the origin that it was told of");

/** Serves an empty page at the shop's origin, opens it in a browser under this host, and returns it. */
async function open(t, host) {
  const { port } = new URL(shop);
  const server = createServer((_, response) => {
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.end("<!doctype html><title>A shop</title>");
  });
  await new Promise((listening) => server.listen(Number(port), listening));
  t.after(() => server.close());
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(`http://${host}:${port}/`);
  return page;
}

test("a page of an allowed origin lists events, logs in and reserves with a key", async (t) => {
  const page = await open(t, new URL(shop).hostname);
  const seen = await page.evaluate(async (address) => {
    const ask = async (method, path, headers, body) => {
      const text = body && JSON.stringify(body);
      const answer = await fetch(address + path, { method, headers, body: text });
      return { status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.json() };
    };
    const json = { "Content-Type": "application/json" };
    const list = await ask("GET", "/api/v1/events?limit=1", {});
    const credentials = { username: "cust1", password: "boxoffice-demo" };
    const { token } = (await ask("POST", "/api/v1/sessions", json, credentials)).body;
    const buyer = { ...json, Authorization: `Bearer ${token}` };
    const keyed = { ...buyer, "Idempotency-Key": crypto.randomUUID(), "X-Request-Id": "shop-1" };
    const first = await ask("POST", "/api/v1/events/2/reservations", keyed, { quantity: 1 });
    const again = await ask("POST", "/api/v1/events/2/reservations", keyed, { quantity: 1 });
    const event = await ask("GET", "/api/v1/events/2", {});
    const stranger = await ask("GET", "/api/v1/reservations", {});
    const edit = await ask("PATCH", "/api/v1/events/2", { ...buyer, "If-Match": '"1"' }, { quota: 1 });
    const huge = await ask("POST", "/api/v1/sessions", json, { username: "x".repeat(100_000) });
    return { list, first, again, event, stranger, edit, huge };
  }, address);
  assert.equal(seen.list.status, 200);
  assert.match(seen.list.headers.link, /rel="next"/);
  assert.equal(seen.first.status, 201);
  assert.equal(seen.first.headers.location, `/api/v1/reservations/${seen.first.body.id}`);
  assert.equal(seen.first.headers["x-request-id"], "shop-1");
  assert.equal(seen.first.headers["idempotent-replayed"], undefined);
  assert.equal(seen.again.headers["idempotent-replayed"], "true");
  assert.deepEqual(seen.again.body, seen.first.body);
  assert.match(seen.event.headers.etag, /^"\d+"$/);
  assert.deepEqual([seen.stranger.status, seen.stranger.body.type], [401, "/problems/unauthorized"]);
  assert.deepEqual([seen.edit.status, seen.edit.body.type], [403, "/problems/forbidden"]);
  assert.deepEqual([seen.huge.status, seen.huge.body.type], [413, "/problems/content-too-large"]);
});

test("a page of another origin can neither ask nor read", async (t) => {
  const page = await open(t, "127.0.0.1");
  const outcomes = await page.evaluate(async (address) => {
    const attempt = (method, headers) =>
      fetch(`${address}/api/v1/events`, { method, headers }).then(
        (answer) => `read ${answer.status}`,
        (error) => error.name,
      );
    return [
      await attempt("GET", {}),
      await attempt("GET", { Authorization: "Bearer x" }),
      await attempt("POST", { "Content-Type": "application/json" }),
    ];
  }, address);
  assert.deepEqual(outcomes, ["TypeError", "TypeError", "TypeError"]);
});
