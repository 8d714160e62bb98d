"""Tests of the input and output of pgbench, redis-benchmark and nginx."""

import unittest
from pathlib import Path

from .. import nginx, postgres, redis

PGBENCH = """\
pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: reserve.sql
scaling factor: 1
query mode: prepared
number of clients: 8
number of threads: 2
maximum number of tries: 1
duration: 2 s
number of transactions actually processed: 2752
number of failed transactions: 0 (0.000%)
latency average = 5.663 ms
initial connection time = 21.411 ms
tps = 1412.555524 (without initial connection time)
"""

# client, transaction, microseconds, script, seconds and microseconds since 1970
PGBENCH_LOG = "".join(f"0 {number} {number * 10} 0 1795000000 0\n" for number in range(1, 1001))

REDIS_BENCHMARK = (
    '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"\n'
    '"EVALSHA abc 1 event:__rand_int__ 1 1","35356.51","20.9","1.2","21.407","30.1","43.583","50.0"\n'
)


class Pgbench(unittest.TestCase):
    def test_run(self):
        run = postgres.parse_pgbench(PGBENCH, PGBENCH_LOG)
        self.assertEqual((run.clients, run.transactions, run.failed), (8, 2752, 0))
        self.assertEqual(run.per_second, 1412.555524)
        self.assertEqual(run.latency_us, {"p50": 5010.0, "p99": 9910.0, "p99_9": 10000.0})

    def test_too_few_samples_are_no_latency(self):
        self.assertEqual(postgres.parse_pgbench(PGBENCH, "0 1 10 0 1795000000 0\n").latency_us, {})

    def test_other_output_is_an_error(self):
        with self.assertRaisesRegex(postgres.PostgresError, "could not connect"):
            postgres.parse_pgbench("pgbench: error: could not connect\n", "")

    def test_best(self):
        runs = [postgres.Run(clients, 1, 0, rate, {}) for clients, rate in ((1, 10.0), (8, 30.0), (80, 20.0))]
        self.assertEqual(postgres.best(runs).clients, 8)


class RedisBenchmark(unittest.TestCase):
    def test_run(self):
        run = redis.parse_benchmark(REDIS_BENCHMARK, clients=80, pipelined=10, requests=60_000)
        self.assertEqual(run.per_second, 35356.51)
        self.assertEqual(run.latency_us, {"p50": 21407.0, "p99": 43583.0})

    def test_other_output_is_an_error(self):
        for output in ("", "ERR unknown command\n", REDIS_BENCHMARK + REDIS_BENCHMARK.splitlines()[1]):
            with self.assertRaises(redis.RedisError, msg=output):
                redis.parse_benchmark(output, clients=80, pipelined=1, requests=1)


class NginxConfiguration(unittest.TestCase):
    def configuration(self, body="{}", **headers):
        answer = nginx.Answer(201, {"Content-Type": "application/json", **headers}, body)
        return nginx.configuration(answer, directory=Path("/d"), port=1, workers=2, connections=10)

    def test_answers_with_our_headers_and_body(self):
        text = self.configuration('{"id":"5-1"}\n', Location="/api/v1/reservations/5-1", Date="today")
        self.assertIn('return 201 \'{"id":"5-1"}\\n\';', text)
        self.assertIn("add_header Location '/api/v1/reservations/5-1' always;", text)
        self.assertIn("default_type application/json;", text)
        # nginx adds its own.
        self.assertNotIn("Date", text)

    def test_what_it_would_read_otherwise_is_refused(self):
        for body in ("$host", "it's", "a\\b", "a\rb"):
            with self.assertRaises(nginx.NginxError, msg=body):
                self.configuration(body)
