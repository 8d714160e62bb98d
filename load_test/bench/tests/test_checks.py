"""Tests of the conditions that must hold after a load."""

import unittest

from bench.api import Event
from bench.checks import Killed, violations
from bench.load import Load


def seen(created: int, refused: dict | None = None, errors: int = 0) -> Load:
    answered = created + sum((refused or {}).values())
    return Load(answered, created, refused or {}, errors, 1.0, {})


BEFORE = {1: Event(100, 10), 2: Event(100, 0)}


class Violations(unittest.TestCase):
    def check(self, after: dict, load: Load, *words: str, **options):
        """Checks for exactly these violations, each identified by some of its words."""
        found = violations(BEFORE, after, load, 5, **options)
        self.assertEqual(len(found), len(words), found)
        for text, word in zip(found, words):
            self.assertIn(word, text)

    def test_what_is_right(self):
        after = {1: Event(100, 30), 2: Event(100, 10)}
        self.check(after, seen(30))
        # Five requests were in flight.
        self.check(after, seen(25))
        self.check({1: Event(100, 100), 2: Event(100, 100)}, seen(190, {"409": 7}), sold_out=True)

    def test_lost(self):
        self.check({1: Event(100, 30), 2: Event(100, 10)}, seen(31), "31 reservations were answered 201, only 30")

    def test_more_than_was_asked_for(self):
        self.check({1: Event(100, 30), 2: Event(100, 10)}, seen(24), "30 are recorded, but 24")

    def test_oversold(self):
        self.check({1: Event(100, 101), 2: Event(100, 0)}, seen(91), "event 1 is oversold: 101 of 100")

    def test_gone(self):
        self.check({1: Event(100, 30), 2: None}, seen(20), "event 2 is gone")

    def test_refused_and_failed(self):
        after = {1: Event(100, 30), 2: Event(100, 0)}
        self.check(after, seen(20, {"500": 3}), "answers other than 201")
        self.check(after, seen(20, errors=2), "2 requests failed")

    def test_nothing_sold(self):
        self.check(BEFORE, seen(0), "not one")


class Kill(unittest.TestCase):
    def test_lost_is_what_was_acknowledged_and_is_not_there(self):
        self.assertEqual(Killed(100, 90, 0, 0.1).lost, 10)


if __name__ == "__main__":
    unittest.main()
