'use strict';

// autocannon with the requests that wrk sends, too. Usage:
//   node autocannon.js URL FILE CONNECTIONS SECONDS
// FILE has a request a line: its path, a tab, its token. Prints one line of JSON, after "result ".

const fs = require('node:fs');

const autocannon = require('autocannon');

const [url, file, connections, seconds] = process.argv.slice(2);

const requests = fs
  .readFileSync(file, 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => {
    const [path, token] = line.split('\t');
    return {
      method: 'POST',
      path,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
      body: '{"quantity":1}',
    };
  });

const load = { url, connections: Number(connections), duration: Number(seconds), requests };
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
      // autocannon itself counts until its last connection is closed.
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
