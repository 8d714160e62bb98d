"""Programs that the comparison needs, from Debian where they are missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Iterable

from . import load, process

# Programs, and the Debian packages that have them.
PACKAGES = {
    "cc": "gcc",
    "curl": "curl",
    "nginx": "nginx-light",
    "node": "nodejs",
    "npm": "npm",
    "pgbench": "postgresql",
    "psql": "postgresql-client",
    "redis-server": "redis-server",
    "redis-benchmark": "redis-tools",
    "taskset": "util-linux",
    "wrk": "wrk",
}


class InstallError(Exception):
    """Something is missing that cannot be installed here."""


def ensure(tools: Iterable[str]) -> None:
    """Installs what is missing, and the load generators `tools`."""
    missing = sorted({package for program, package in PACKAGES.items() if not find(program)})
    if missing:
        apt(missing)
    for tool in set(tools):
        if tool == "autocannon":
            load.install_autocannon()
        if tool == "oha":
            load.install_oha()


def apt(packages: list[str]) -> None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise InstallError(f"these Debian packages are needed: apt-get install {' '.join(packages)}")
    print(f"installing {' '.join(packages)}", flush=True)
    # Packages of servers start them on their usual ports, unless the system says it is in single-user mode.
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    process.run(["apt-get", "update", "-q"], environment=quiet)
    process.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages], environment=quiet)


def find(program: str) -> Path | None:
    return process.find(program, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))


def programs() -> dict[str, Path | None]:
    """Those whose versions are part of the results."""
    names = ("nginx", "node", "postgres", "redis-server", "wrk")
    cargo = {name: process.find(name) for name in ("rustc", "python3")}
    return {**{name: find(name) for name in names}, "oha": process.find("oha", load.TOOLS / "bin"), **cargo}
