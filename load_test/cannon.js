'use strict';

// Reserves tickets of four events over 80 connections, then proves through the API that no event
// was oversold and no acknowledged reservation is missing.

const fs = require('node:fs');
const { parseArgs } = require('node:util');

const autocannon = require('autocannon');

const { CUSTOMERS, EVENTS, logIn, populate, readEvents, readSettledEvents } = require('./api');
const { sum, violations } = require('./proof');
const { cpuSeconds, peakMebibytes } = require('./usage');

const USAGE = `Usage: node cannon.js [options]

  --url URL          a server started with --demo [http://localhost:9092]
  --quota N          tickets per event, if the events do not exist yet [10000]
  --connections N    connections, each with one request in flight [80]
  --duration S       seconds [10]
  --amount N         number of requests, instead of a duration
  --pid PID          process id of the server, to print its CPU time and memory
  --summary FILE     write a line "event reserved" per event to this file
`;

const OPTIONS = {
  url: { type: 'string', default: 'http://localhost:9092' },
  quota: { type: 'string', default: '10000' },
  connections: { type: 'string', default: '80' },
  duration: { type: 'string', default: '10' },
  amount: { type: 'string' },
  pid: { type: 'string' },
  summary: { type: 'string' },
  help: { type: 'boolean', default: false },
};

class UsageError extends Error {}

function count(name, text) {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 1) {
    throw new UsageError(`--${name} must be a whole number of at least 1, not ${text}`);
  }
  return number;
}

function readOptions() {
  let values;
  try {
    values = parseArgs({ options: OPTIONS }).values;
  } catch (error) {
    throw new UsageError(error.message);
  }
  const options = { ...values, url: values.url.replace(/\/+$/, '') };
  for (const name of ['quota', 'connections', 'duration', 'amount', 'pid']) {
    if (values[name] !== undefined) options[name] = count(name, values[name]);
  }
  if (options.amount !== undefined && options.amount < options.connections) {
    throw new UsageError('--amount must not be below --connections');
  }
  return options;
}

// One request per event, with the customers in turn.
function requests(tokens) {
  return EVENTS.map((event, index) => ({
    method: 'POST',
    path: `/api/v1/events/${event}/reservations`,
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${tokens[index % tokens.length]}`,
    },
    body: JSON.stringify({ quantity: 1 }),
  }));
}

// Returns autocannon's result and the seconds from the start to the last response, because
// autocannon counts whole seconds, which is too coarse for a fixed amount.
function fire({ url, connections, duration, amount }, tokens) {
  const length = amount === undefined ? { duration } : { amount };
  const load = { url, connections, excludeErrorStats: true, requests: requests(tokens), ...length };
  return new Promise((resolve, reject) => {
    const start = performance.now();
    let lastAnswer = start;
    const instance = autocannon(load, (error, result) => {
      if (error) reject(error);
      else resolve({ result, seconds: (lastAnswer - start) / 1000 });
    });
    instance.on('response', () => {
      lastAnswer = performance.now();
    });
  });
}

function printLoad(result, seconds, statuses) {
  const { latency } = result;
  const answered = result.requests.total;
  const counts = Object.entries(statuses).map(([status, times]) => `${status}: ${times}`);
  console.log(
    `  requests     ${answered} answered in ${seconds.toFixed(2)} s, ${(answered / seconds).toFixed(0)}/s`,
  );
  console.log(
    `  latency ms   avg ${latency.average}, p50 ${latency.p50}, p97.5 ${latency.p97_5}, ` +
      `p99 ${latency.p99}, max ${latency.max} (of the 201s; autocannon counts whole ms)`,
  );
  console.log(`  throughput   ${result.throughput.average.toFixed(0)} bytes/s (of the 201s)`);
  console.log(`  statuses     ${counts.join(', ')}; failed or timed out: ${result.errors}`);
}

function printServer(pid, cpuBefore, answered) {
  const cpu = cpuSeconds(pid) - cpuBefore;
  console.log(
    `  server       ${((cpu / answered) * 1e6).toFixed(1)} us of CPU a request (${cpu.toFixed(2)} s), ` +
      `at most ${peakMebibytes(pid).toFixed(0)} MiB resident`,
  );
}

function printProof(found, made, before, after, unansweredMax) {
  for (const violation of found) console.error(`  NOT PROVED   ${violation}`);
  if (found.length > 0) return;
  const recorded = sum(after) - sum(before);
  const bound = unansweredMax === 0 ? 'exactly' : `and at most ${unansweredMax} unanswered:`;
  console.log(`  proved       ${made} acknowledged, ${bound} ${recorded} recorded; no event oversold`);
}

async function main() {
  const options = readOptions();
  if (options.help) {
    process.stdout.write(USAGE);
    return true;
  }
  await populate(options.url, options.quota);
  const admin = await logIn(options.url, 'admin');
  const tokens = await Promise.all(CUSTOMERS.map((customer) => logIn(options.url, customer)));
  const before = await readEvents(options.url, admin);

  const cpuBefore = options.pid === undefined ? 0 : cpuSeconds(options.pid);
  const { result, seconds } = await fire(options, tokens);
  const statuses = Object.fromEntries(
    Object.entries(result.statusCodeStats).map(([status, { count: times }]) => [status, times]),
  );
  printLoad(result, seconds, statuses);
  if (options.pid !== undefined) printServer(options.pid, cpuBefore, result.requests.total);

  // With a fixed amount, every request is answered; a duration cuts off requests in flight.
  const unansweredMax = options.amount === undefined ? options.connections : 0;
  const after = await readSettledEvents(options.url, admin);
  const found = violations({ before, after, statuses, errors: result.errors, unansweredMax });
  if (options.amount !== undefined && result.requests.total !== options.amount) {
    found.push(`${options.amount} requests were sent, only ${result.requests.total} answered`);
  }
  printProof(found, statuses['201'] ?? 0, before, after, unansweredMax);
  if (options.summary !== undefined) {
    fs.writeFileSync(options.summary, after.map(({ id, reserved }) => `${id} ${reserved}\n`).join(''));
  }
  return found.length === 0;
}

main().then(
  (proved) => {
    process.exitCode = proved ? 0 : 1;
  },
  (error) => {
    if (error instanceof UsageError) {
      process.stderr.write(`${error.message}\n\n${USAGE}`);
    } else {
      console.error(`${error.message}${error.cause ? `: ${error.cause.message}` : ''}`);
      console.error('Start a server with `boxoffice serve --demo` first.');
    }
    process.exitCode = 2;
  },
);
