"""The other programs of a comparison: installed ones, or packages of the distribution unpacked under target/.

Packages are unpacked without running their scripts, so that no service is registered or started and
root is not needed.
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
# A script per unpacked program, which sets the path of its libraries.
PROGRAMS = UNPACKED / "bin"

# The packages of Debian and Ubuntu, by program.
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
    """A program is missing; the message names the remedy."""


def find(program: str) -> Path | None:
    """Finds a program in PATH, in Debian's directories of PostgreSQL (newest first), or among unpacked ones."""
    return process.find(program, *_postgres_directories(Path("/"))) or process.find(program, PROGRAMS)


def require(program: str) -> Path:
    """Like `find`, with an error that says what to install."""
    found = find(program)
    if found is None:
        raise ToolError(f"{program} is missing: install {PACKAGES.get(program, program)}")
    return found


def ensure_tools(programs: Iterable[str] = PACKAGES) -> None:
    """Unpacks the programs that `find` does not find. Needs the network and some seconds, once."""
    missing = [program for program in programs if find(program) is None]
    if not missing:
        return
    packages = sorted({PACKAGES[program] for program in missing})
    by_hand = f"install by hand what {', '.join(missing)} are in (Debian: apt-get install {' '.join(packages)})"
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise ToolError(f"apt-get is missing; {by_hand}")
    print(f"unpacking {', '.join(packages)} under {UNPACKED} (once)", flush=True)
    try:
        _unpack(packages)
    except process.ProcessError as reason:
        raise ToolError(f"{reason}\n{by_hand}") from None
    if still := [program for program in missing if find(program) is None]:
        raise ToolError(f"the packages have no {', '.join(still)}; {by_hand}")


def _unpack(packages: list[str], apt_options: Iterable[str] = ()) -> None:
    """Unpacks `packages` and their missing dependencies."""
    archives = UNPACKED / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        # Container images have no package lists. If the update fails, the existing lists are used.
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
    """Debian's directories of PostgreSQL's programs, newest version first."""
    found = (root / "usr" / "lib" / "postgresql").glob("*/bin")
    return sorted(
        (path for path in found if re.fullmatch(r"\d+", path.parent.name)), key=lambda path: -int(path.parent.name)
    )
