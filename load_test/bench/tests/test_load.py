"""Tests with captured output of load generators."""

import tempfile
import unittest
from pathlib import Path

from bench import load

CAPTURED = Path(__file__).parent / "captured"


def captured(name: str) -> str:
    return (CAPTURED / name).read_text()


class Wrk(unittest.TestCase):
    def test_a_load(self):
        seen = load.parse_wrk(captured("wrk.txt"))
        self.assertEqual((seen.answered, seen.created, seen.refused, seen.errors), (14808, 14808, {}, 0))
        self.assertEqual(seen.latency_us, {"p50": 4126, "p99": 14358, "p99_9": 17780})
        # wrk prints 14581.23.
        self.assertAlmostEqual(seen.per_second, 14581.23, places=1)

    def test_pipelined_there_are_no_latencies(self):
        seen = load.parse_wrk(captured("wrk-pipelined.txt"))
        self.assertEqual(seen.answered, 77800)
        self.assertEqual(seen.latency_us, {})

    def test_each_status_is_counted(self):
        seen = load.parse_wrk(captured("wrk-sold-out.txt"))
        self.assertEqual((seen.answered, seen.created, seen.refused), (28253, 500, {"409": 27753}))

    def test_without_counting_what_is_not_2xx_is_other(self):
        output = captured("wrk-sold-out.txt").replace('{"201": 500, "409": 27753}', "{}")
        seen = load.parse_wrk(output)
        self.assertEqual((seen.created, seen.refused), (500, {"other": 27753}))

    def test_a_killed_server_leaves_errors(self):
        seen = load.parse_wrk(captured("wrk-killed.txt"))
        self.assertEqual((seen.created, seen.errors), (12125, 240))

    def test_what_was_made(self):
        self.assertEqual(load.parse_made("made 1-1 4-2 1-2\nresult {}\n"), ["1-1", "4-2", "1-2"])
        self.assertEqual(load.parse_made("made \nresult {}\n"), [])
        with self.assertRaises(load.LoadError):
            load.parse_made(captured("wrk.txt"))

    def test_no_result(self):
        with self.assertRaisesRegex(load.LoadError, "unable to connect"):
            load.parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")


class Others(unittest.TestCase):
    def test_autocannon(self):
        seen = load.parse_autocannon(captured("autocannon.txt"))
        self.assertEqual((seen.answered, seen.created, seen.refused, seen.errors), (12751, 12751, {}, 0))
        self.assertEqual(seen.latency_us, {"p50": 4000, "p99": 25000, "p99_9": 66000})

    def test_oha(self):
        seen = load.parse_oha(captured("oha.json"))
        self.assertEqual((seen.created, seen.refused, seen.errors), (seen.answered, {}, 0))
        self.assertEqual(seen.latency_us, {"p50": 1379.6, "p99": 6817.5, "p99_9": 13665.6})
        self.assertAlmostEqual(seen.per_second, 1000, delta=5)


class Requests(unittest.TestCase):
    def written(self, tokens: list[str], events: list[int]) -> list[list[str]]:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "requests"
            load.write_requests(file, tokens, events)
            return [line.split("\t") for line in file.read_text().splitlines()]

    def test_every_customer_and_every_event_takes_part(self):
        tokens = [f"token{number}" for number in range(1000)]
        for events in ([1], [1, 2, 3, 4], list(range(1, 1001))):
            lines = self.written(tokens, events)
            self.assertEqual(len(lines), 1000)
            self.assertEqual({token for _, _, token in lines}, set(tokens))
            paths = [path for _, path, _ in lines]
            wanted = {f"/api/v1/events/{event}/reservations": 1000 // len(events) for event in events}
            self.assertEqual({path: paths.count(path) for path in set(paths)}, wanted)

    def test_the_order_is_always_the_same(self):
        self.assertEqual(self.written(["a", "b"], [1, 2, 3]), self.written(["a", "b"], [1, 2, 3]))


if __name__ == "__main__":
    unittest.main()
