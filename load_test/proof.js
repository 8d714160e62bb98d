'use strict';

// The conditions that must hold after every load.

// The statuses that a load of reservations may get: created, sold out, overloaded.
const EXPECTED_STATUSES = new Set(['201', '409', '503']);

function sum(events) {
  return events.reduce((total, event) => total + event.reserved, 0);
}

// Returns the violations, a sentence each. `unansweredMax` is the maximum number of requests that
// may have been carried out without a response.
function violations({ before, after, statuses, errors, unansweredMax }) {
  const found = [];
  for (const { id, quota, reserved, held, remaining } of after) {
    if (reserved > quota) found.push(`event ${id} is oversold: ${reserved} of ${quota}`);
    if (quota !== reserved + held + remaining) {
      found.push(`event ${id}: quota ${quota} is not ${reserved} + ${held} + ${remaining}`);
    }
  }
  const made = statuses['201'] ?? 0;
  const recorded = sum(after) - sum(before);
  if (recorded < made) found.push(`${made} reservations were acknowledged, only ${recorded} are recorded`);
  if (recorded > made + unansweredMax) {
    found.push(`${recorded} are recorded, but ${made} were acknowledged and at most ${unansweredMax} unanswered`);
  }
  if ((statuses['409'] ?? 0) > 0 && after.every((event) => event.remaining > 0)) {
    found.push('"sold out" was answered, but every event has tickets left');
  }
  for (const [status, count] of Object.entries(statuses)) {
    if (!EXPECTED_STATUSES.has(status)) found.push(`${count} answers with the unexpected status ${status}`);
  }
  if (errors > 0) found.push(`${errors} requests failed or timed out`);
  return found;
}

module.exports = { sum, violations };
