"""Tests of the computations on curves, and of the requests that fill a server."""

import contextlib
import socket
import tempfile
import threading
import unittest
from pathlib import Path

from .. import curves, growth_report, load, pipeline


def sample(x, repeat=0, series="", **figures):
    return {
        "x": x,
        "repeat": repeat,
        "series": series,
        "held": 0,
        "created": 0,
        "per_second": 1000.0,
        "latency_us": {"p50": 100, "p99": 2000},
        "cpu_us_per_request": 5.0,
        "memory_bytes": 100 << 20,
        "records_per_commit": 40.0,
        "load_average": 0.5,
        **figures,
    }


def results(samples, name="reservations"):
    curve = {"title": "T", "x_label": "x", "conditions": "few", "log_y": ["memory_mib"], "samples": samples}
    machine = {
        "cpu": "C",
        "cpus": 2,
        "kernel": "6",
        "file_system": "ext4",
        "sync_us": {"append_fsync": {"p50": 100.0, "p99": 200.0}},
    }
    head = {
        "started": "2026-01-02T03:04:05Z",
        "machine": machine,
        "repeats": 1,
        "seconds": 1,
        "customers": 9,
        "commit": "abc",
    }
    return {**head, "curves": {name: curve}}


class Summary(unittest.TestCase):
    def test_points_are_ordered_and_compared_with_the_first(self):
        samples = [
            sample(100, per_second=500.0, cpu_us_per_request=10.0),
            sample(1, per_second=1000.0),
            sample(1, 1, per_second=3000.0),
            sample(1, 2, per_second=2000.0),
        ]
        points = growth_report.summarize(results(samples))["reservations"]["points"]
        self.assertEqual([point["x"] for point in points], [1, 100])
        self.assertEqual(points[0]["per_second"], {"median": 2000.0, "min": 1000.0, "max": 3000.0, "samples": 3})
        self.assertEqual([point["per_second_ratio"] for point in points], [1.0, 0.25])
        self.assertEqual([point["cpu_us_per_request_ratio"] for point in points], [1.0, 2.0])

    def test_series_are_compared_each_with_its_own(self):
        samples = [
            sample(1, series="a"),
            sample(1, series="b", per_second=10.0, latency_us={}),
            sample(2, series="b", per_second=20.0),
        ]
        points = growth_report.summarize(results(samples))["reservations"]["points"]
        self.assertEqual(
            [(point["series"], point["per_second_ratio"]) for point in points], [("a", 1.0), ("b", 1.0), ("b", 2.0)]
        )
        self.assertIsNone(points[1]["p99_ms"])

    def test_bytes_of_a_reservation_count_what_the_measurements_made(self):
        samples = [
            sample(0, held=0, created=1000, memory_bytes=1_000_000),
            sample(100_000, held=100_000, created=1000, memory_bytes=11_000_000),
        ]
        self.assertEqual(growth_report.bytes_per_reservation(samples)["median"], 100.0)

    def test_without_growth_there_are_no_bytes_of_a_reservation(self):
        self.assertIsNone(growth_report.bytes_per_reservation([sample(1), sample(1000)]))

    def test_recovery(self):
        recovery = {"records": 3_000_000, "milliseconds": 1500, "memory_bytes": 1 << 30}
        summary = growth_report.summarize(results([sample(0), {"x": 1, "repeat": 0, "recovery": recovery}]))[
            "reservations"
        ]
        self.assertEqual(len(summary["points"]), 1)
        self.assertEqual(summary["recovery"]["records_per_second"]["median"], 2_000_000)
        self.assertIn("3,000,000 records in 1.5 s", growth_report.history_text(summary))

    def test_tables_say_what_was_left_out(self):
        made = results([], "batch")
        made["curves"]["batch"]["left_out"] = "this server has no option --max-batch"
        made["summary"] = growth_report.summarize(made)
        self.assertIn("Not measured: this server has no option --max-batch.", growth_report.tables(made, "charts"))

    def test_failed_measurements_are_named_and_leave_the_others(self):
        failed = {"x": 5000, "series": "", "repeat": 1, "error": "CurveError: of 10 answers\nmore"}
        made = results([sample(10), sample(5000), failed], "connections")
        made["summary"] = growth_report.summarize(made)
        self.assertEqual(growth_report.failures(made), ["connections, 5,000, round 2: CurveError: of 10 answers"])
        self.assertIn("- connections, 5,000, round 2", growth_report.tables(made, "charts"))
        self.assertEqual(len(made["summary"]["connections"]["points"]), 2)

    def test_tables(self):
        made = results([sample(0), sample(10_000, latency_us={})])
        made["summary"] = growth_report.summarize(made)
        self.assertIn(
            "| 10,000 | 1,000 | 1.00 | - | 5.0 | 1.00 | 100 | 40 |", growth_report.tables(made, "charts").splitlines()
        )


class Steps(unittest.TestCase):
    def test_every_curve_has_steps_in_ascending_order(self):
        for curve in curves.CURVES.values():
            for xs in (curve.xs, curve.quick_xs):
                self.assertEqual(list(xs), sorted(set(xs)), curve.name)
                for x in xs:
                    steps = curve.steps(x)
                    self.assertTrue(all(step.x == x for step in steps), curve.name)
                    self.assertTrue(all(step.sold_events <= step.event_count for step in steps), curve.name)
                    self.assertEqual(len({step.series for step in steps}), len(steps), curve.name)

    def test_the_order_turns_around_with_each_repeat(self):
        class Bench:
            def measure_once(self, step, repeat):
                return step.x

        curve = curves.CURVES["events"]
        self.assertEqual(list(curve.measure(Bench(), [1, 10], 0)), [1, 10])
        self.assertEqual(list(curve.measure(Bench(), [1, 10], 1)), [10, 1])

    def test_metrics(self):
        text = '# TYPE x\nboxoffice_records_total 12\nboxoffice_http_responses_total{class="2xx"} 3\nboxoffice_x 0.5\n'
        self.assertEqual(curves.parse_metrics(text), {"records_total": 12})

    def test_check(self):
        def seen(**given):
            return load.Load(
                **{**dict(answered=100, created=100, refused={}, errors=0, seconds=1.0, latency_us={}), **given}
            )

        def check(recorded, load_seen):
            curves.check({"tickets_reserved": 7}, {"tickets_reserved": 7 + recorded}, load_seen, under_way=80)

        check(100, seen())
        check(180, seen())
        for recorded, load_seen in (
            (99, seen()),
            (181, seen()),
            (100, seen(refused={"409": 1})),
            (100, seen(errors=1)),
            (0, seen(answered=0, created=0)),
        ):
            with self.assertRaises(curves.CurveError):
                check(recorded, load_seen)


ANSWER = b"HTTP/1.1 201 Created\r\nLocation: /api/v1/events/7\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers each request, recognized by its body, with the next of `answers` (repeating the last), in parts of `part` bytes."""

    def __init__(self, *answers, part=1 << 20):
        self.taken = 0
        self._answers = answers
        self._part = part
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        # The client disconnects after a refusal.
        with connection, contextlib.suppress(ConnectionError):
            # A pause, so that the client receives the parts separately.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            received = b""
            while part := connection.recv(1 << 16):
                received += part
                count = received.count(b"{body}")
                received = received[received.rfind(b"{body}") + 6 :] if count else received
                for _ in range(count):
                    with self._lock:
                        answer = self._answers[min(self.taken, len(self._answers) - 1)]
                        self.taken += 1
                    for at in range(0, len(answer), self._part):
                        connection.sendall(answer[at : at + self._part])

    def close(self):
        self._listener.close()


class Pipeline(unittest.TestCase):
    def send(self, server, count, **options):
        requests = [pipeline.request(pipeline.host_of(server.url), "/x", "token", "{body}")] * 250
        received = []
        try:
            pipeline.send_all(server.url, requests, count, received.append, **options)
        finally:
            server.close()
        return b"".join(received)

    def test_sends_exactly_as_many_as_were_asked_for(self):
        for count in (0, 1, 99, 100, 101, 1234):
            server = Server(ANSWER)
            self.assertEqual(self.send(server, count).count(b"/events/7"), count)
            self.assertEqual(server.taken, count)

    def test_answers_that_come_in_parts_are_whole(self):
        server = Server(ANSWER, part=7)
        self.assertEqual(self.send(server, 150, connections=2), ANSWER * 150)

    def test_a_refusal_is_an_error_that_shows_it(self):
        refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno"
        with self.assertRaisesRegex(pipeline.PipelineError, "503 Service Unavailable"):
            self.send(Server(ANSWER, ANSWER, refusal), 300, connections=1)


class Charts(unittest.TestCase):
    def setUp(self):
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            self.skipTest("no matplotlib here: run this with target/load-test-venv/bin/python")

    def test_the_same_figures_give_the_same_bytes(self):
        made = results([sample(0), sample(10_000), sample(10_000, 1, per_second=10.0)])
        made["summary"] = growth_report.summarize(made)
        with tempfile.TemporaryDirectory() as directory:
            drawn = [growth_report.draw(made, Path(directory) / str(turn))[0].read_bytes() for turn in range(2)]
        self.assertEqual(drawn[0], drawn[1])
        self.assertIn(b">reservations/s<", drawn[0])

    def test_numbers(self):
        from ..charts import number

        written = {
            0: "0",
            0.25: "0.25",
            999: "999",
            999.6: "1k",
            1234: "1.23k",
            10_000: "10k",
            999_900: "1M",
            3_000_000: "3M",
        }
        self.assertEqual({value: number(value) for value in written}, written)

    def test_nothing_to_draw_is_an_error(self):
        from .. import charts

        with self.assertRaises(ValueError):
            charts.bars(Path("unused"), "T", "x", [])
        with self.assertRaises(ValueError):
            charts.lines(Path("unused"), charts.Lines("T", "x", []))
