// Whether /docs works in a browser: it shows every operation, "Try it out" logs in and
// reserves a ticket, and nothing breaks the page's Content-Security-Policy. The picture in the
// README is its try-it.png: SCREENSHOTS=FOLDER contract/check.

import assert from "node:assert/strict";
import { test } from "node:test";
import { chromium } from "playwright-core";

const address = process.env.ADDRESS;
assert(address, "ADDRESS names the server");

/** A page that fails the test when it complains, or asks anyone but the server. */
async function open(t, path) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
  t.after(() => browser.close());
  const page = await browser.newPage({ viewport: { width: 1000, height: 760 } });
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(address) && !url.startsWith("data:")) complaints.push(`it asks ${url}`);
  });
  await page.goto(address + path);
  return { page, complaints };
}

/** Runs an operation with "Try it out"; returns the status of the answer. */
async function tryOut(page, operation, fill) {
  const block = page.locator(`[id$="-${operation}"]`);
  await block.locator(".opblock-summary-control").click();
  await block.getByRole("button", { name: "Try it out" }).click();
  await fill(block);
  await block.getByRole("button", { name: "Execute" }).click();
  const answer = block.locator(".live-responses-table .response");
  await answer.waitFor();
  return { block, status: Number((await answer.locator(".response-col_status").innerText()).trim().split("\n")[0]) };
}

test("the contract is shown, and a ticket can be reserved from it", async (t) => {
  const { page, complaints } = await open(t, "/docs");
  await page.locator(".opblock").first().waitFor();
  const contract = await (await fetch(`${address}/openapi.json`)).json();
  const operations = Object.values(contract.paths).flatMap((methods) => Object.keys(methods));
  assert.equal(await page.locator(".opblock").count(), operations.length);
  if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/docs.png` });

  const credentials = JSON.stringify({ username: "cust1", password: "boxoffice-demo" });
  const session = await tryOut(page, "createSession", (block) => block.locator("textarea").fill(credentials));
  assert.equal(session.status, 201);

  const before = await (await fetch(`${address}/api/v1/events/1`)).json();
  const sale = await tryOut(page, "createReservation", async (block) => {
    await block.locator('input[placeholder="event"]').fill("1");
    await block.locator("textarea").fill(JSON.stringify({ quantity: 2 }));
  });
  assert.equal(sale.status, 201);
  const after = await (await fetch(`${address}/api/v1/events/1`)).json();
  assert.equal(after.reserved, before.reserved + 2);
  if (process.env.SCREENSHOTS) {
    await sale.block.locator(".live-responses-table").scrollIntoViewIfNeeded();
    await page.screenshot({ path: `${process.env.SCREENSHOTS}/try-it.png` });
  }
  assert.deepEqual(complaints, []);
});

test("every problem has a page, with an example that is one", async (t) => {
  const { page, complaints } = await open(t, "/problems");
  const links = page.locator("td a");
  const addresses = await links.evaluateAll((all) => all.map((link) => link.getAttribute("href")));
  assert(addresses.length > 20);
  for (const address of addresses) {
    await page.goto(new URL(address, page.url()).href);
    const [head, body] = (await page.locator("pre").innerText()).split("\n\n");
    const example = JSON.parse(body);
    assert.equal(example.type, address);
    assert.match(head, new RegExp(`^HTTP/1.1 ${example.status}\n`));
  }
  if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/problem.png` });
  assert.deepEqual(complaints, []);
});

test("the policy refuses what is inline", async (t) => {
  const { page, complaints } = await open(t, "/problems/sold-out");
  await page.evaluate(() => {
    const style = document.createElement("style");
    style.textContent = "body { color: red }";
    document.head.append(style);
  });
  assert.equal(complaints.length, 1);
  assert.match(complaints[0], /Content Security Policy/);
});
