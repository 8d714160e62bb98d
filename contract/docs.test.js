// Tests /docs in a browser: it shows every operation, "Try it out" logs in and reserves a
// ticket, and nothing violates the Content-Security-Policy. To renew the picture in the README,
// run SCREENSHOTS=FOLDER contract/check and copy try-it.png.

import assert from "node:assert/strict";
import { test } from "node:test";
import { chromium } from "playwright-core";

const address = process.env.ADDRESS;
assert(address, "set ADDRESS to the address of the server");

/** Opens a page; collects its errors, warnings and requests to other servers. */
async function open(t, path) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
  t.after(() => browser.close());
  const page = await browser.newPage({ viewport: { width: 1000, height: 760 } });
  const findings = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) findings.push(message.text());
  });
  page.on("pageerror", (error) => findings.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(address) && !url.startsWith("data:")) findings.push(`request to ${url}`);
  });
  await page.goto(address + path);
  return { page, findings };
}

/** Runs an operation with "Try it out"; returns the status of the response. */
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

test("/docs shows every operation and can reserve a ticket", async (t) => {
  const { page, findings } = await open(t, "/docs");
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
  assert.deepEqual(findings, []);
});

test("every problem has a page with an example", async (t) => {
  const { page, findings } = await open(t, "/problems");
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
  assert.deepEqual(findings, []);
});

test("the policy refuses inline styles", async (t) => {
  const { page, findings } = await open(t, "/problems/sold-out");
  await page.evaluate(() => {
    const style = document.createElement("style");
    style.textContent = "body { color: red }";
    document.head.append(style);
  });
  assert.equal(findings.length, 1);
  assert.match(findings[0], /Content Security Policy/);
});
