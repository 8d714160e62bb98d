"""PostgreSQL: a private cluster that syncs each commit, loaded by pgbench.

A reservation is one prepared statement: a conditional UPDATE of the event and an INSERT of the
reservation. This is the fastest form over PostgreSQL's own protocol, apart from a function on the
server.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Iterable, Sequence

from . import process, tools

EVENT_COUNT = 4
QUOTA = 10_000_000
CUSTOMER_COUNT = 1000

# Every commit is on disk before it is answered, as with boxoffice.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_sync_method": "fdatasync",
    "shared_buffers": "512MB",
    "max_connections": "200",
    # In the cluster's directory, so that a kill leaves nothing in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
}

# Settings at their defaults that also affect the cost of a commit, recorded with those above.
RECORDED = (
    "server_version",
    "commit_delay",
    "wal_level",
    "wal_compression",
    "max_wal_size",
    "checkpoint_timeout",
    "autovacuum",
    "jit",
)

CLIENT_COUNTS = (1, 2, 4, 8, 16, 32, 80)

SCHEMA = """
DROP TABLE IF EXISTS reservation, event;
CREATE TABLE event (id bigint PRIMARY KEY, quota bigint NOT NULL, reserved bigint NOT NULL DEFAULT 0,
    CHECK (reserved <= quota)) WITH (fillfactor = 50);
CREATE TABLE reservation (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event bigint NOT NULL,
    customer bigint NOT NULL, quantity bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
INSERT INTO event (id, quota) SELECT id, {quota} FROM generate_series(1, {events}) AS id;
CHECKPOINT;
"""

SCRIPT = """\\set event random(1, {events})
\\set customer random(1, {customers})
WITH taken AS (
    UPDATE event SET reserved = reserved + 1 WHERE id = :event AND reserved + 1 <= quota RETURNING id
) INSERT INTO reservation (event, customer, quantity) SELECT id, :customer, 1 FROM taken RETURNING id;
"""

# Latencies are sampled from a part of the transactions, so that logging them costs little.
SAMPLING_RATE = 0.25


class PostgresError(Exception):
    """The output of pgbench cannot be parsed, or the totals are inconsistent."""


@dataclass(frozen=True)
class Run:
    """One run of pgbench."""

    clients: int
    transactions: int
    failed: int
    per_second: float
    # p50, p99, p99_9, measured by the clients.
    latency_us: dict[str, float]

    def as_json(self) -> dict:
        return asdict(self)


class Postgres(process.PrivateServer):
    """A private cluster."""

    # The fast shutdown, which disconnects all clients.
    stop_signal = signal.SIGINT

    def __init__(self, directory: Path, **placed) -> None:
        """`placed` is as in `PrivateServer`."""
        self._as_user = as_ordinary_user(directory.resolve().parent)
        # The path of a socket has at most 107 bytes, so it cannot be in a deep directory.
        self.sockets = Path(tempfile.mkdtemp(prefix="boxoffice-postgres."))
        super().__init__(directory, **placed)

    def make(self) -> None:
        super().make()
        if self._as_user:
            user = pwd.getpwnam(ordinary_user())
            for path in (self.directory, self.sockets):
                os.chown(path, user.pw_uid, user.pw_gid)
        command = [tools.require("initdb"), "-D", self.directory / "data", "--auth=trust", "--username=postgres"]
        process.run([*self._as_user, *command, "--encoding=UTF8", "--locale=C"], directory=self.directory)

    def start(self) -> None:
        options = [f"--{name}={value}" for name, value in SETTINGS.items()]
        options += [f"--port={self.port}", "--listen_addresses=127.0.0.1", f"--unix_socket_directories={self.sockets}"]
        server = self.run([*self._as_user, tools.require("postgres"), "-D", self.directory / "data", *options])
        server.wait_for_line("database system is ready to accept connections")

    def close(self) -> None:
        if self.server is not None:
            self.kill()
        _remove_shared_memory(self.directory / "data" / "postmaster.pid")
        shutil.rmtree(self.sockets, ignore_errors=True)
        super().close()

    def sql(self, text: str) -> list[list[str]]:
        """Runs statements and returns the rows of the last."""
        command = [tools.require("psql"), "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1"]
        output = process.run(
            [*command, "-h", self.sockets, "-p", self.port, "-U", "postgres", "-d", "postgres", "-c", text]
        )
        return [line.split("\t") for line in output.splitlines()]

    def reset(self) -> None:
        """Empties the tables and creates events with all tickets available."""
        for statement in SCHEMA.format(quota=QUOTA, events=EVENT_COUNT).split(";"):
            if statement.strip():
                self.sql(statement)

    def settings(self) -> dict[str, str]:
        """The settings that affect speed and durability, as SHOW returns them."""
        return {name: self.sql(f"SHOW {name}")[0][0] for name in (*SETTINGS, *RECORDED)}

    def sold(self) -> int:
        """The tickets sold; raises `PostgresError` if events and reservations differ."""
        [[events, reservations]] = self.sql(
            "SELECT (SELECT sum(reserved) FROM event), (SELECT coalesce(sum(quantity), 0) FROM reservation)"
        )
        if events != reservations:
            raise PostgresError(f"{events} tickets sold by the events, {reservations} by the reservations")
        return int(events)

    def pgbench(
        self, clients: int, seconds: float, *, threads: int = 1, cpus: Iterable[int] | None = None, tcp: bool = False
    ) -> Run:
        """Runs pgbench over the Unix socket (or TCP) with `clients` that each have one statement in flight."""
        directory = Path(tempfile.mkdtemp(prefix="pgbench.", dir=self.sockets))
        script = directory / "reserve.sql"
        script.write_text(SCRIPT.format(events=EVENT_COUNT, customers=CUSTOMER_COUNT))
        command = [tools.require("pgbench"), "--no-vacuum", "--protocol=prepared", f"--client={clients}"]
        command += [f"--jobs={min(threads, clients)}", f"--time={max(1, round(seconds))}", f"--file={script}"]
        command += ["--log", f"--log-prefix={directory / 'transactions'}", f"--sampling-rate={SAMPLING_RATE}"]
        command += ["-h", "127.0.0.1" if tcp else self.sockets, "-p", self.port, "-U", "postgres", "postgres"]
        try:
            output = process.run(command, cpus=cpus, seconds=seconds + 60)
            logs = [file.read_text() for file in directory.glob("transactions.*")]
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return parse_pgbench(output, "".join(logs))

    def pgbench_by_clients(self, seconds: float, counts: Sequence[int] = CLIENT_COUNTS, **options) -> list[Run]:
        """Runs pgbench for each number of clients, from empty tables. The options are those of `pgbench`."""
        runs = []
        for clients in counts:
            self.reset()
            runs.append(self.pgbench(clients, seconds, **options))
            if self.sold() < runs[-1].transactions:
                raise PostgresError(f"{runs[-1].transactions} transactions, but {self.sold()} tickets sold")
        return runs


def best(runs: Iterable[Run]) -> Run:
    return max(runs, key=lambda run: run.per_second)


def parse_pgbench(output: str, log: str) -> Run:
    """Parses the output of pgbench and its log of transactions, whose third field is microseconds."""

    def number(pattern: str) -> float:
        match = re.search(pattern, output, re.MULTILINE)
        if match is None:
            last = "\n".join(output.splitlines()[-15:])
            raise PostgresError(f"no {pattern!r} in the output of pgbench:\n{last}")
        return float(match[1])

    samples = [float(line.split()[2]) for line in log.splitlines()]
    ranks = {"p50": 50, "p99": 99, "p99_9": 99.9}
    return Run(
        clients=int(number(r"^number of clients: (\d+)")),
        transactions=int(number(r"^number of transactions actually processed: (\d+)")),
        failed=int(number(r"^number of failed transactions: (\d+)")),
        per_second=number(r"^tps = ([\d.]+)"),
        latency_us={name: _percentile(samples, rank) for name, rank in ranks.items()} if len(samples) > 1 else {},
    )


def _percentile(samples: list[float], rank: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * rank / 100))]


def ordinary_user() -> str:
    """The user as whom root runs PostgreSQL."""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


def as_ordinary_user(directory: Path) -> list[str]:
    """The prefix of a command that must not run as root, as PostgreSQL requires; empty if this is not root.

    The command can still traverse directories that only root can access, such as those above a checkout.
    """
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        raise tools.ToolError(
            "PostgreSQL does not run as root, and there is no setpriv to change the user: install util-linux"
        )
    user = pwd.getpwnam(ordinary_user())
    capability = "+dac_override"
    return [
        "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups",
        f"--inh-caps={capability}", f"--ambient-caps={capability}", "--",
    ]  # fmt: skip


def _remove_shared_memory(pid_file: Path) -> None:
    """Removes the shared memory segment by which PostgreSQL detects a second server; a kill leaves it behind."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return
    # The seventh line has the key and the id of the segment.
    if len(lines) >= 7 and len(fields := lines[6].split()) == 2 and shutil.which("ipcrm"):
        try:
            process.run(["ipcrm", "--shmem-id", fields[1]])
        except process.ProcessError:
            # Already removed.
            pass
