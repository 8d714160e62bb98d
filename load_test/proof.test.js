'use strict';

const assert = require('node:assert');
const { test } = require('node:test');

const { violations } = require('./proof');

// Checks the violations after a load on an event of ten tickets, two of which were sold before.
// `wanted` are the beginnings of the expected sentences.
function check(load, wanted) {
  const { made, soldOut = 0, other = {}, errors = 0, unansweredMax = 0, reserved, remaining = 10 - reserved } = load;
  const statuses = { 201: made, ...(soldOut > 0 && { 409: soldOut }), ...other };
  const before = [{ id: 1, quota: 10, reserved: 2, held: 0, remaining: 8 }];
  const after = [{ id: 1, quota: 10, reserved, held: 0, remaining }];
  const found = violations({ before, after, statuses, errors, unansweredMax });
  assert.strictEqual(found.length, wanted.length, found.join('; '));
  wanted.forEach((start, index) => assert.ok(found[index].startsWith(start), found[index]));
}

test('violations are found', () => {
  check({ made: 3, reserved: 5 }, []);
  check({ made: 8, soldOut: 4, reserved: 10 }, []);
  check({ made: 3, unansweredMax: 1, reserved: 6 }, []);
  check({ made: 3, other: { 503: 2 }, reserved: 5 }, []);
  check({ made: 3, reserved: 4 }, ['3 reservations were acknowledged, only 2']);
  check({ made: 3, reserved: 6 }, ['4 are recorded, but 3 were acknowledged']);
  check({ made: 9, reserved: 11, remaining: 0 }, ['event 1 is oversold', 'event 1: quota 10 is not 11']);
  check({ made: 3, reserved: 5, remaining: 6 }, ['event 1: quota 10 is not 5']);
  check({ made: 3, soldOut: 1, reserved: 5 }, ['"sold out" was answered']);
  check({ made: 3, other: { 500: 2 }, reserved: 5 }, ['2 answers with the unexpected status 500']);
  check({ made: 3, errors: 1, reserved: 5 }, ['1 requests failed']);
});
