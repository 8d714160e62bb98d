"""The other programs of a comparison: found on this machine, or unpacked under target/ from its distribution.

Nothing is installed: packages are unpacked without running their scripts, so that no service is
registered, started, or left behind, and no root is needed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Iterable

from . import process

TARGET = Path(__file__).parent.parent.parent / "target"
UNPACKED = TARGET / "bench-tools" / "debian"
# One small script for each unpacked program, which sets the way to its libraries.
PROGRAMS = UNPACKED / "bin"

# Debian's packages (Ubuntu has the same) by the program that is needed of them.
PACKAGES = {
    "postgres": "postgresql",
    "initdb": "postgresql",
    "pgbench": "postgresql",
    "psql": "postgresql-client",
    "redis-server": "redis-server",
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
    "nginx": "nginx-light",
    "wrk": "wrk",
}

DOWNLOAD_SECONDS_MAX = 600.0


class ToolError(Exception):
    """A program is missing, and what to do about it."""


def find(program: str) -> Path | None:
    """A program, from PATH, from where Debian puts PostgreSQL's (its newest), or from what was unpacked."""
    return process.find(program, *_postgres_directories(Path("/"))) or process.find(program, PROGRAMS)


def require(program: str) -> Path:
    """Like `find`, with an error that says what to install."""
    found = find(program)
    if found is None:
        raise ToolError(f"there is no {program} here: install {PACKAGES.get(program, program)}")
    return found


def ensure_tools(programs: Iterable[str] = PACKAGES) -> None:
    """Sees to it that `find` finds all these programs. Takes some seconds, and the network, once."""
    missing = [program for program in programs if find(program) is None]
    if not missing:
        return
    packages = sorted({PACKAGES[program] for program in missing})
    by_hand = f"install by hand what {', '.join(missing)} are in (Debian: apt-get install {' '.join(packages)})"
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise ToolError(f"no apt-get here; {by_hand}")
    print(f"unpacking {', '.join(packages)} under {UNPACKED} (once)", flush=True)
    try:
        _unpack(packages)
    except process.ProcessError as reason:
        raise ToolError(f"{reason}\n{by_hand}") from None
    if still := [program for program in missing if find(program) is None]:
        raise ToolError(f"the packages have no {', '.join(still)}; {by_hand}")


def _unpack(packages: list[str], apt_options: Iterable[str] = ()) -> None:
    """Unpacks `packages`, and what they depend on as far as this machine does not have it."""
    archives = UNPACKED / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        # An image of a container comes without lists of packages. Others have to do with what is there.
        process.run(["apt-get", "update", "-q"], seconds=DOWNLOAD_SECONDS_MAX)
    apt = ["apt-get", "install", "--download-only", "--no-install-recommends", "--yes", "-q", *apt_options]
    apt += ["-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]
    process.run([*apt, *packages], seconds=DOWNLOAD_SECONDS_MAX)
    root = UNPACKED / "root"
    for archive in sorted(archives.glob("*.deb")):
        process.run(["dpkg-deb", "--extract", archive, root])
    _write_scripts(root)


def _write_scripts(root: Path) -> None:
    libraries = ":".join(str(path) for path in sorted((root / "usr" / "lib").glob("*-linux-gnu*")))
    PROGRAMS.mkdir(exist_ok=True)
    directories = [*_postgres_directories(root), root / "usr" / "bin", root / "usr" / "sbin"]
    for program in PACKAGES:
        found = next((path / program for path in directories if (path / program).exists()), None)
        if found is None:
            continue
        script = PROGRAMS / program
        script.write_text(
            f'#!/bin/sh\nexport LD_LIBRARY_PATH={shlex.quote(libraries)}\nexec {shlex.quote(str(found))} "$@"\n'
        )
        script.chmod(0o755)


def _postgres_directories(root: Path) -> list[Path]:
    """Where Debian has PostgreSQL's own programs, the newest version first."""
    found = (root / "usr" / "lib" / "postgresql").glob("*/bin")
    return sorted(
        (path for path in found if re.fullmatch(r"\d+", path.parent.name)), key=lambda path: -int(path.parent.name)
    )
