"""The machine of a measurement: CPU, kernel, disk, load, and the versions of all programs."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from . import process

SYNCS = 500
BLOCK_BYTES = 4096


def describe(directory: Path, programs: dict[str, Path | None]) -> dict:
    """Describes the machine as JSON. `directory` is on the disk that the contenders use.

    `programs`: the path of each program by name; those that are None are omitted.
    """
    return {
        "cpu": cpu_model(),
        "cpus": len(process.available_cpus()),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "file_system": file_system(directory),
        "sync_us": measure_syncs(directory),
        "versions": {name: version(program) for name, program in programs.items() if program},
    }


def cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    model = match[1] if match else platform.machine()
    virtual = "hypervisor" in Path("/proc/cpuinfo").read_text()
    return f"{model} (virtual machine)" if virtual else model


def file_system(directory: Path) -> str:
    return subprocess.check_output(["findmnt", "--noheadings", "--output", "FSTYPE", "--target", directory], text=True).strip()


def measure_syncs(directory: Path, count: int = SYNCS) -> dict:
    """Measures the median and 99th percentile, in microseconds, of two ways to make 4 KiB durable."""
    block = os.urandom(BLOCK_BYTES)

    def timed(file: int, offset: int, sync) -> float:
        start = time.perf_counter()
        os.pwrite(file, block, offset)
        sync(file)
        return (time.perf_counter() - start) * 1e6

    with tempfile.NamedTemporaryFile(dir=directory) as temporary:
        file = temporary.fileno()
        appended = [timed(file, index * BLOCK_BYTES, os.fsync) for index in range(count)]
        overwritten = [timed(file, index % 16 * BLOCK_BYTES, os.fdatasync) for index in range(count)]
    return {
        "append_fsync": {"p50": percentile(appended, 50), "p99": percentile(appended, 99)},
        "overwrite_fdatasync": {"p50": percentile(overwritten, 50), "p99": percentile(overwritten, 99)},
    }


def percentile(samples: list[float], rank: int) -> float:
    return round(statistics.quantiles(samples, n=100, method="inclusive")[rank - 1], 1)


def load_average() -> float:
    """The average number of processes that were running or waiting for the disk in the last minute."""
    return os.getloadavg()[0]


def version(program: Path) -> str:
    """The version of a program: the first version number in its output."""
    for option in ("--version", "-v", "-V"):
        # wrk prints its version with its usage and exits with 1; nginx writes to standard error.
        asked = subprocess.run([program, option], capture_output=True, text=True, timeout=10)
        if match := re.search(r"(?<![\d.])\d+\.\d+(?:\.\d+)*", asked.stdout + asked.stderr):
            return match[0]
    return "unknown"
