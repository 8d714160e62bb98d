"""PostgreSQL and Redis alone, each over its own protocol: what they do without a program in front."""

from __future__ import annotations


def seconds(repeats: int, seconds_each: int) -> float:
    """How long `measure` takes for all repeats."""
    return 0


def measure(repeat: int, seconds_each: int) -> list[dict]:
    return []
