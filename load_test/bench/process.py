"""Programs under test: started on chosen CPUs, measured as process trees, always ended.

`end_all` ends every program started here; the commands call it in any case.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Self, Sequence

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# Enough for a recovery of millions of records, or a first start of PostgreSQL, on a busy machine.
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0

_running: list[Server] = []


class ProcessError(Exception):
    """A program failed to start or to end."""


@dataclass(frozen=True)
class Usage:
    """The resources used by process trees so far."""

    # The user and system time of the processes and of the children that they waited for.
    cpu_seconds: float
    # The proportional set size, which counts shared memory once.
    memory_bytes: int


class Server:
    """A program and its descendants, in a session of their own."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        cpus: Iterable[int] | None = None,
        environment: dict[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        """Starts `command` on `cpus` (all if None); its standard output and error go to the file `log`.

        `environment` is added to that of this process. Descendants inherit the CPUs, unless they
        set others.
        """
        self.command = [str(part) for part in command]
        self.name = Path(self.command[0]).name
        self.log = log
        pinned = [] if cpus is None else ["taskset", "--cpu-list", cpu_list(cpus)]
        log.parent.mkdir(parents=True, exist_ok=True)
        # Truncated, so that the output of an earlier program is not taken for this one's.
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*pinned, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        _running.append(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    def output(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def wait_for_line(self, pattern: str, seconds: float = START_SECONDS_MAX) -> re.Match[str]:
        """Waits until `pattern` is found in the program's output."""
        return self.wait_until(lambda: re.search(pattern, self.output()), f"a line like {pattern!r}", seconds)

    def wait_until(self, ready, what: str, seconds: float = START_SECONDS_MAX):
        """Waits until `ready()` is true while the program runs, and returns what it returned."""
        deadline = time.monotonic() + seconds
        while True:
            ended = self._process.poll()
            if result := ready():
                return result
            if ended is not None:
                raise ProcessError(f"{self.name} ended with {ended} before {what}:\n{self._last_output()}")
            if time.monotonic() > deadline:
                raise ProcessError(f"{self.name}: no {what} within {seconds:.0f} s:\n{self._last_output()}")
            time.sleep(0.01)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def wait(self, seconds: float) -> None:
        """Waits until the program exits with 0."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProcessError(f"{self.name} did not end within {seconds:.0f} s; killed") from None
        _forget(self)
        if status != 0:
            raise ProcessError(f"{self.name} ended with {status}:\n{self._last_output()}")

    def kill(self) -> None:
        """Kills the whole tree with SIGKILL. Returns when every process has ended."""
        # Stopped first, so that no process reacts to the end of another or starts a new one.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            pids = tree([self.pid])
            for pid in pids:
                _send(pid, number)
        self._process.wait()
        _wait_until_gone(pids)
        _forget(self)

    def stop(self, number: int = signal.SIGTERM, seconds: float = STOP_SECONDS_MAX) -> None:
        """Stops the program; raises an error unless it exits with 0 or by that signal."""
        pids = tree([self.pid])
        self._process.send_signal(number)
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProcessError(f"{self.name} did not end within {seconds:.0f} s; killed") from None
        for pid in pids:
            _send(pid, signal.SIGKILL)
        _wait_until_gone(pids)
        _forget(self)
        if status not in (0, -number):
            raise ProcessError(f"{self.name} ended with {status}:\n{self._last_output()}")

    def _last_output(self) -> str:
        return "\n".join(self.output().splitlines()[-15:])


class PrivateServer:
    """A private server with its data in `directory`, on a free port of 127.0.0.1; `close` ends and removes it.

    Subclasses define `make`, called before the first start, `start`, called each time, and `reset`,
    called after the first start.
    """

    stop_signal = signal.SIGTERM

    def __init__(
        self,
        directory: Path,
        *,
        cpus: Iterable[int] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """`cpus` and `environment` apply to all of its processes."""
        self.directory = directory.resolve()
        self.port = free_port()
        self.server: Server | None = None
        self._cpus = cpus
        self._environment = environment
        try:
            self.make()
            self.start()
            self.reset()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def make(self) -> None:
        self.directory.mkdir(parents=True)

    def start(self) -> None:
        """Starts the server, also on the data of a killed one, and waits until it answers."""
        raise NotImplementedError

    def reset(self) -> None:
        """Creates the data for a load."""

    def stop(self) -> None:
        """Stops the server, even if clients are connected."""
        server, self.server = self.server, None
        server.stop(self.stop_signal)

    def kill(self) -> None:
        """Kills all of its processes with SIGKILL."""
        server, self.server = self.server, None
        server.kill()

    def close(self) -> None:
        """Ends the server if it is running, and removes its data."""
        if self.server is not None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def run(self, command: Sequence[str | Path]) -> Server:
        """Starts `command` as the server, without waiting until it is ready."""
        self.server = Server(
            command,
            log=self.directory / "log",
            cpus=self._cpus,
            environment=self._environment,
            directory=self.directory,
        )
        return self.server


def run(command: Sequence[str | Path], *, cpus=None, seconds: float = 600.0, environment=None, directory=None) -> str:
    """Runs a program until it exits and returns its standard output; a failure is a `ProcessError`.

    Only this process gets SIGINT; it then ends the program with all others.
    """
    command = [str(part) for part in command]
    pinned = [] if cpus is None else ["taskset", "--cpu-list", cpu_list(cpus)]
    process = subprocess.Popen(
        [*pinned, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except BaseException as reason:
        for pid in tree([process.pid]):
            _send(pid, signal.SIGKILL)
        process.communicate()
        if isinstance(reason, subprocess.TimeoutExpired):
            raise ProcessError(f"{command[0]} did not end within {seconds:.0f} s; killed") from None
        raise
    if process.returncode != 0:
        last = "\n".join((errors or output).splitlines()[-15:])
        raise ProcessError(f"{' '.join(command)[:200]} ended with {process.returncode}:\n{last}")
    return output


def end_all() -> None:
    """Kills every server that is still running."""
    for server in list(_running):
        server.kill()


def usage(servers: Iterable[Server]) -> Usage:
    pids = tree([server.pid for server in servers])
    return Usage(sum(map(_cpu_seconds, pids)), sum(map(_memory_bytes, pids)))


def cpu_seconds(servers: Iterable[Server]) -> float:
    """Like `usage`, without the memory, which the kernel computes slowly."""
    return sum(map(_cpu_seconds, tree([server.pid for server in servers])))


def tree(roots: Iterable[int]) -> list[int]:
    """The existing processes among `roots` and their descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, waiting = [], [pid for pid in roots if _stat(pid)]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, []))
    return found


def cpu_list(cpus: Iterable[int]) -> str:
    return ",".join(map(str, sorted(cpus)))


def available_cpus() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def free_port() -> int:
    """A free port of 127.0.0.1, for programs that cannot choose and print one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listens(port: int) -> bool:
    """Returns true if a server accepts connections on this port of 127.0.0.1."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def find(program: str, *directories: Path | str) -> Path | None:
    """Finds a program in the given directories, then in PATH."""
    path = os.pathsep.join([*map(str, directories), os.environ.get("PATH", ""), "/usr/sbin"])
    found = shutil.which(program, path=path)
    return Path(found) if found else None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on (proc_pid_stat(5)); empty if the process is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name in parentheses may contain any character.
    fields = text[text.rindex(")") + 2 :].split()
    return [] if fields[0] in "ZX" else fields


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    # utime, stime, cutime, cstime: fields 14 to 17.
    return sum(map(int, fields[11:15])) / TICKS_PER_SECOND if fields else 0.0


def _memory_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    match = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _wait_until_gone(pids: Iterable[int], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    for pid in pids:
        while _stat(pid):
            if time.monotonic() > deadline:
                raise ProcessError(f"process {pid} does not end")
            time.sleep(0.002)


def _forget(server: Server) -> None:
    if server in _running:
        _running.remove(server)
