'use strict';

// The calls of the HTTP API around the load: demonstration data, tokens, ticket counts.

const PASSWORD = 'boxoffice-demo';
const CUSTOMERS = ['cust1', 'cust2', 'cust3'];
const EVENTS = [1, 2, 3, 4];

async function call(url, options = {}) {
  const response = await fetch(url, { signal: AbortSignal.timeout(30_000), ...options });
  const body = await response.text();
  if (!response.ok && response.status !== 304) {
    throw new Error(`${options.method ?? 'GET'} ${url}: ${response.status} ${body}`);
  }
  return body === '' ? null : JSON.parse(body);
}

// Creates the users and events of the demonstration, if they do not exist.
async function populate(url, quota) {
  await call(`${url}/api/v1/pop?quota=${quota}`);
}

async function logIn(url, username) {
  const session = await call(`${url}/api/v1/sessions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ username, password: PASSWORD }),
  });
  return session.token;
}

async function readEvents(url, token) {
  const headers = { authorization: `Bearer ${token}` };
  return Promise.all(EVENTS.map((id) => call(`${url}/api/v1/events/${id}`, { headers })));
}

// Reads the events until two readings agree, because requests that were in flight at the end of
// the load may still be carried out.
async function readSettledEvents(url, token) {
  let before = await readEvents(url, token);
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    const after = await readEvents(url, token);
    if (after.every((event, index) => event.reserved === before[index].reserved)) return after;
    before = after;
  }
}

module.exports = { CUSTOMERS, EVENTS, logIn, populate, readEvents, readSettledEvents };
