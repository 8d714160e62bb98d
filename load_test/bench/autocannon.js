'use strict';

// Runs autocannon with the requests that wrk sends. Usage:
//   node autocannon.js URL FILE CONNECTIONS SECONDS
// FILE has one request per line: method, path and token, separated by tabs. Prints one line of JSON after "result ".

const fs = require('node:fs');

const autocannon = require('autocannon');

const [url, file, connections, seconds] = process.argv.slice(2);

const requests = fs
  .readFileSync(file, 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => {
    const [method, path, token] = line.split('\t');
    const authorization = `Bearer ${token}`;
    return method === 'POST'
      ? { method, path, headers: { 'content-type': 'application/json', authorization }, body: '{"quantity":1}' }
      : { method, path, headers: { authorization } };
  });

// Each connection repeats its share of the requests. autocannon builds a connection's requests at
// its start, and all of them for each connection would take seconds.
let connection = 0;
const load = {
  url,
  connections: Number(connections),
  duration: Number(seconds),
  requests: requests.slice(0, 1),
  setupClient(client) {
    const share = requests.filter((_, index) => index % Number(connections) === connection);
    connection += 1;
    client.setRequests(share.length > 0 ? share : requests.slice(0, 1));
  },
};
const start = performance.now();
let lastAnswer = start;
const instance = autocannon(load, (error, result) => {
  if (error) throw error;
  const statuses = Object.fromEntries(
    Object.entries(result.statusCodeStats).map(([status, { count }]) => [status, count]),
  );
  const { p50, p99, p99_9: p999 } = result.latency;
  console.log(
    `result ${JSON.stringify({
      answered: result.requests.total,
      // autocannon's own duration includes the closing of connections.
      duration_s: (lastAnswer - start) / 1000,
      statuses,
      errors: result.errors,
      latency_ms: { p50, p99, p99_9: p999 },
    })}`,
  );
});
instance.on('response', () => {
  lastAnswer = performance.now();
});
