// Uses a client generated from /openapi.json: an organizer creates an event, a customer
// reserves, holds, confirms, lists and cancels. The program must type-check and get the expected answers.
// Its argument is the address of the server.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./generated/api.js";

type Role = components["schemas"]["Role"];

const baseUrl: string = process.argv[2] ?? assert.fail("usage: client ADDRESS");
const anyone = createClient<paths>({ baseUrl });

async function signUp(role: Role) {
  const username = `${role}-${process.pid}`;
  const password = "correct horse battery";
  const registered = await anyone.POST("/api/v1/users", { body: { username, password, role } });
  assert.equal(registered.response.status, 201);
  const session = await anyone.POST("/api/v1/sessions", { body: { username, password } });
  assert(session.data, JSON.stringify(session.error));
  assert.equal(session.data.user.username, username);
  return createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${session.data.token}` } });
}

const organizer = await signUp("organizer");
const customer = await signUp("customer");

const created = await organizer.POST("/api/v1/events", { body: { name: "Recital", quota: 5 } });
assert(created.data, JSON.stringify(created.error));
const event = created.data.id;
const inEvent = { params: { path: { event } } };

const reserved = await customer.POST("/api/v1/events/{event}/reservations", { ...inEvent, body: { quantity: 3 } });
assert(reserved.data, JSON.stringify(reserved.error));
assert.equal(reserved.data.status, "confirmed");
assert.equal(reserved.response.headers.get("Location"), `/api/v1/reservations/${reserved.data.id}`);

// `type` discriminates problems: only the sold-out one has `remaining`.
const refused = await customer.POST("/api/v1/events/{event}/reservations", { ...inEvent, body: { quantity: 3 } });
assert(refused.error && refused.error.type === "/problems/sold-out", JSON.stringify(refused));
const { remaining }: components["schemas"]["SoldOutProblem"] = refused.error;
assert.equal(remaining, 2);

const listed = await customer.GET("/api/v1/reservations", { params: { query: { limit: 10 } } });
assert.deepEqual(listed.data, { items: [reserved.data], next: null });

const inReservation = { params: { path: { reservation: reserved.data.id } } };
const cancelled = await customer.DELETE("/api/v1/reservations/{reservation}", inReservation);
assert.equal(cancelled.response.status, 204);
const gone = await customer.GET("/api/v1/reservations/{reservation}", inReservation);
// A status of a later version is no error of types.
assert(gone.data?.status !== "transferred");
assert.equal(gone.data?.status, "cancelled");

const held = await customer.POST("/api/v1/events/{event}/holds", { ...inEvent, body: { quantity: 2, ttl_seconds: 60 } });
assert(held.data?.status === "held" && held.data.expires_at, JSON.stringify(held));
const inHold = { params: { path: { reservation: held.data.id } } };
const confirmed = await customer.POST("/api/v1/holds/{reservation}/confirm", { ...inHold, body: { quantity: 1 } });
assert.deepEqual([confirmed.data?.status, confirmed.data?.quantity], ["confirmed", 1]);
// Without a body, all that is left.
const repeated = await customer.POST("/api/v1/holds/{reservation}/confirm", inHold);
assert.deepEqual(repeated.data, confirmed.data);
const late = await customer.DELETE("/api/v1/holds/{reservation}", inHold);
assert(late.error && late.error.type === "/problems/hold-confirmed", JSON.stringify(late));
await customer.DELETE("/api/v1/reservations/{reservation}", inHold);

const edited = await organizer.PATCH("/api/v1/events/{event}", { ...inEvent, body: { quota: 4 } });
assert.deepEqual([edited.data?.quota, edited.data?.reserved, edited.data?.remaining], [4, 0, 4]);

// @ts-expect-error: the types refuse members that are not in the contract.
const unknown = await customer.POST("/api/v1/events/{event}/reservations", { ...inEvent, body: { tickets: 1 } });
assert.equal(unknown.response.status, 422);

console.log("the generated client registers, logs in, creates, reserves, holds, confirms, lists, cancels and edits");
