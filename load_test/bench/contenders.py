"""The contenders: how each is configured, started, killed and restarted."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sqlite3
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Sequence

from . import api, load, nginx, process
from .postgres import Postgres
from .process import Server
from .redis import Redis

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "target"

CUSTOMER_COUNT = 1000
# The number of customers for contenders that are filled at every start: each costs two runs of argon2.
FEW_CUSTOMERS = 100
EVENT_COUNT = 1000
# The tickets of the event that a proof sells out.
SCARCE_QUOTA = 500

# The maximum age of a prepared directory, so that a run ends before its tokens expire after 12 hours.
PREPARED_SECONDS_MAX = 6 * 60 * 60

# A 201 whose reservation is lost in a crash.
NOT_DURABLE = "in memory"
SYNCED = "synced"
# A 201 whose reservation is written later.
QUEUED = "in a queue"
# A 201 of a ceiling, which sells nothing.
NO_SALE = "a constant"

LISTENING = r"listening on (http://[0-9.:]+)"


@dataclass(frozen=True)
class Setup:
    """The environment in which a contender runs."""

    # An empty directory on the measured disk, readable by all, since PostgreSQL runs as another user.
    directory: Path
    cpus: Sequence[int]
    cpu_count: int
    # Makes syncs slow, if the scenario requires it.
    environment: dict[str, str]
    # The number of events; contenders with a prepared directory have EVENT_COUNT.
    event_count: int
    # Runs at the end, also after a failure.
    cleanup: ExitStack


@dataclass(frozen=True)
class Stock:
    """The events and accounts of a contender."""

    accounts: api.Accounts
    # In the order in which loads use them: the first, the first four, all.
    events: list[int]
    # An event with SCARCE_QUOTA tickets.
    scarce_event: int


@dataclass
class Stand:
    """A running contender with all its processes."""

    url: str
    stock: Stock
    # The program that answers, and its databases.
    program: Server
    databases: list[Postgres | Redis] = field(default_factory=list)
    # The method and path of the requests.
    target: str = load.RESERVE
    # The settings of this contender, including those that determine whether a 201 is durable.
    settings: dict = field(default_factory=dict)

    @property
    def servers(self) -> list[Server]:
        return [self.program, *(database.server for database in self.databases)]


class Contender(ABC):
    name: str
    # The name in tables.
    title: str
    # "ours", "phase" (a phase of the original), or "ceiling" (sells nothing).
    kind: str
    # The durability of a 201, in a few words.
    durability: str

    def prepare(self) -> None:
        """Builds and installs the dependencies. Called once, before all measurements."""

    @abstractmethod
    def start(self, setup: Setup) -> Stand: ...

    @abstractmethod
    def restart(self, setup: Setup, stand: Stand) -> Stand:
        """Restarts a killed contender on its directory, with the same events and tokens."""

    def stop(self, stand: Stand) -> None:
        """Stops the program, then its databases."""
        stand.program.stop()
        for database in stand.databases:
            database.stop()

    def kill(self, stand: Stand) -> None:
        """Kills every process with SIGKILL: the program first, so that it does not answer for a killed database."""
        stand.program.kill()
        for database in stand.databases:
            database.kill()


class Ours(Contender):
    kind = "ours"

    def __init__(self, name: str, title: str, storage: str, shards: int, options: tuple[str, ...] = ()) -> None:
        self.name = name
        self.title = title
        self._storage = storage
        self._shards = shards
        self._options = options
        self.durability = SYNCED if storage == "sqlite" else NOT_DURABLE

    def prepare(self) -> None:
        boxoffice()
        if self._storage == "sqlite":
            prepared_directory()

    def start(self, setup: Setup) -> Stand:
        if self._storage == "memory":
            server, url = self._serve(setup)
            stock = fill(url, FEW_CUSTOMERS, setup.event_count)
        else:
            shutil.copytree(prepared_directory() / "data", setup.directory / "data")
            stock = prepared_stock()
            server, url = self._serve(setup)
        settings = {"command": server.command[1:], "synchronous": "FULL" if self._storage == "sqlite" else None}
        return Stand(url, stock, server, settings=settings)

    def restart(self, setup: Setup, stand: Stand) -> Stand:
        server, url = self._serve(setup)
        return replace(stand, url=url, program=server)

    def _serve(self, setup: Setup) -> tuple[Server, str]:
        command = [boxoffice(), "serve", "--data", setup.directory / "data", "--listen", "127.0.0.1:0"]
        command += ["--registration", "open", "--storage", self._storage, "--shards", str(self._shards), *self._options]
        server = Server(command, log=setup.directory / "boxoffice.log", cpus=setup.cpus, environment=setup.environment)
        return server, server.wait_for_line(LISTENING)[1]


class Front(Ours):
    """boxoffice without a shard: requests are parsed, routed, authenticated and answered."""

    kind = "ceiling"

    def __init__(self) -> None:
        super().__init__("front", "our front without a shard (`GET /api/v1/users/me`)", "memory", 1)
        self.durability = NO_SALE

    def start(self, setup: Setup) -> Stand:
        stand = super().start(setup)
        return replace(stand, target="GET /api/v1/users/me")


class Baseline(Contender):
    """A program of load_test/baselines with the databases that it needs."""

    def __init__(
        self,
        name: str,
        title: str,
        kind: str,
        durability: str,
        *,
        program: str,
        databases: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.title = title
        self.kind = kind
        self.durability = durability
        self._program = program
        self._databases = databases
        self._options = options

    def prepare(self) -> None:
        baselines()
        prepared_directory()

    def start(self, setup: Setup) -> Stand:
        placed = {"cpus": setup.cpus, "environment": setup.environment}
        databases, settings = [], {}
        if "postgres" in self._databases:
            postgres = Postgres(setup.directory / "postgres", **placed)
            setup.cleanup.callback(postgres.close)
            # A separate database, since that of pgbench has tables of the same names.
            postgres.sql("CREATE DATABASE baselines")
            settings["postgres"] = postgres.settings()
            databases.append(postgres)
        if "redis" in self._databases:
            redis = Redis(setup.directory / "redis", **placed)
            setup.cleanup.callback(redis.close)
            settings["redis"] = redis.settings()
            databases.append(redis)
        (setup.directory / "secret").write_bytes(os.urandom(32))
        program, url = self._serve(setup, databases)
        settings["command"] = program.command[1:]
        if self.kind == "ceiling":
            # The response is constant; requests have tokens so that they have the same size.
            return Stand(url, prepared_stock(), program, settings=settings)
        stock = fill(url, FEW_CUSTOMERS, setup.event_count)
        return Stand(url, stock, program, databases, settings=settings)

    def restart(self, setup: Setup, stand: Stand) -> Stand:
        for database in stand.databases:
            database.start()
        program, url = self._serve(setup, stand.databases)
        return replace(stand, url=url, program=program)

    def _serve(self, setup: Setup, databases: list[Postgres | Redis]) -> tuple[Server, str]:
        command = [baselines(), self._program, "--listen", "127.0.0.1:0", "--workers", str(setup.cpu_count)]
        if self.kind != "ceiling":
            command += ["--token-secret-file", setup.directory / "secret", *self._options]
        for database in databases:
            if isinstance(database, Postgres):
                # The Unix socket costs less than TCP.
                address = f"host={database.sockets} port={database.port} user=postgres dbname=baselines"
                command += ["--postgres", address]
            else:
                command += ["--redis", f"redis://127.0.0.1:{database.port}"]
        server = Server(
            command, log=setup.directory / "baselines.log", cpus=setup.cpus, environment=setup.environment
        )
        return server, server.wait_for_line(LISTENING)[1]


class ConstantNginx(Contender):
    name = "nginx"
    title = "nginx, `return`"
    kind = "ceiling"
    durability = NO_SALE

    def prepare(self) -> None:
        prepared_directory()

    def start(self, setup: Setup) -> Stand:
        started = nginx.Nginx(
            setup.directory / "nginx", prepared_answer(), workers=setup.cpu_count, cpus=setup.cpus
        )
        setup.cleanup.callback(started.close)
        return Stand(started.url, prepared_stock(), started.server)

    def restart(self, setup: Setup, stand: Stand) -> Stand:
        raise NotImplementedError("ceilings are not killed")


def boxoffice() -> Path:
    """The release build of boxoffice, or the program in the variable BOXOFFICE."""
    return _given("BOXOFFICE") or _build("boxoffice", ROOT, TARGET)


def baselines() -> Path:
    """The program of load_test/baselines from its own workspace, or the program in BASELINES."""
    return _given("BASELINES") or _build("baselines", ROOT / "load_test" / "baselines", TARGET / "baselines")


def _given(variable: str) -> Path | None:
    given = os.environ.get(variable)
    if given is None:
        return None
    program = Path(given).resolve()
    if not program.is_file():
        raise process.ProcessError(f"{variable} is not a program: {given}")
    return program


@functools.cache
def _build(program: str, workspace: Path, target: Path) -> Path:
    print(f"building {program} (minutes, the first time)", flush=True)
    process.run(
        ["cargo", "build", "--release", "--locked", "--bin", program],
        directory=workspace,
        seconds=3600,
        environment={"CARGO_TARGET_DIR": str(target)},
    )
    return target / "release" / program


def prepared_directory() -> Path:
    """A data directory of boxoffice with accounts and events, and their list: created once, copied for each run."""
    prepared = TARGET / "compare" / "prepared"
    made = prepared / "made.json"
    program = boxoffice()
    if made.exists():
        about = json.loads(made.read_text())
        if about.get("identity") == _identity(program) and time.time() - about["time"] < PREPARED_SECONDS_MAX:
            return prepared
    print(f"registering {CUSTOMER_COUNT} customers, once (half a minute)", flush=True)
    shutil.rmtree(prepared, ignore_errors=True)
    prepared.mkdir(parents=True)
    command = [program, "serve", "--data", prepared / "data", "--listen", "127.0.0.1:0", "--registration", "open"]
    server = Server(command, log=prepared / "boxoffice.log")
    url = server.wait_for_line(LISTENING)[1]
    stock = fill(url, CUSTOMER_COUNT, EVENT_COUNT)
    answer = nginx.ask(url, stock.events[0], stock.accounts.customers[0])
    server.stop()
    made.write_text(
        json.dumps(
            {
                "identity": _identity(program),
                "time": time.time(),
                "stock": asdict(stock),
                "answer": asdict(answer),
                "event_shards": _event_shards(prepared / "data"),
            }
        )
    )
    return prepared


def prepared_stock() -> Stock:
    stock = _about_prepared()["stock"]
    return Stock(**{**stock, "accounts": api.Accounts(**stock["accounts"])})


def prepared_answer() -> nginx.Answer:
    """The response of boxoffice to one reservation."""
    return nginx.Answer(**_about_prepared()["answer"])


def split_over_shards(event_count: int) -> list[int]:
    """The number of the first `event_count` events on each shard, with one shard per CPU."""
    about = _about_prepared()
    shards = about["event_shards"]
    chosen = {str(event) for event in about["stock"]["events"][:event_count]}
    return [len(chosen & set(events)) for events in shards]


def fill(url: str, customer_count: int, event_count: int) -> Stock:
    """Creates accounts and events."""
    quotas = [api.QUOTA] * event_count + [SCARCE_QUOTA]
    accounts, events = api.populate(url, customer_count, quotas)
    return Stock(accounts, events[:-1], events[-1])


def _about_prepared() -> dict:
    return json.loads((prepared_directory() / "made.json").read_text())


def _event_shards(data: Path) -> list[list[str]]:
    """The events in each shard's file, read with Python's SQLite from the directory of a stopped server."""
    shards = []
    for file in sorted(data.glob("shard-*.sqlite")):
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            rows = connection.execute("SELECT event FROM history WHERE kind = 'event_created'")
            shards.append([str(event) for (event,) in rows])
        finally:
            connection.close()
    return shards


def _identity(program: Path) -> list:
    """A key that changes with the program and the prepared data."""
    status = program.stat()
    return [str(program), status.st_size, status.st_mtime_ns, CUSTOMER_COUNT, EVENT_COUNT, SCARCE_QUOTA]


ALL: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Ours("sqlite-1", "boxoffice, 1 shard", "sqlite", 1),
        Ours("sqlite-2", "boxoffice, 2 shards", "sqlite", 2),
        Ours("sqlite-commit-each", "boxoffice, 1 shard, a commit a request", "sqlite", 1, ("--max-batch", "1")),
        Ours("memory-1", "boxoffice in memory, 1 shard", "memory", 1),
        Ours("memory-2", "boxoffice in memory, 2 shards", "memory", 2),
        Baseline("memory-lock", "1: memory with a lock", "phase", NOT_DURABLE, program="memory"),
        *(
            Baseline(name, title, "phase", durability, program=program, databases=databases, options=options)
            for name, title, durability, program, databases, options in (
                ("postgres", "2: PostgreSQL, a transaction a request", SYNCED, "postgres", ("postgres",), ()),
                (
                    "postgres-statement",
                    "2, in one statement",
                    SYNCED,
                    "postgres",
                    ("postgres",),
                    ("--reserve", "statement"),
                ),
                (
                    "postgres-batched",
                    "3: batched jobs in memory, PostgreSQL behind",
                    QUEUED,
                    "postgres-batched",
                    ("postgres",),
                    (),
                ),
                (
                    "postgres-batched-synced",
                    "3, answered after the batch",
                    SYNCED,
                    "postgres-batched",
                    ("postgres",),
                    ("--answer", "after-batch"),
                ),
                (
                    "postgres-redis",
                    "4: the quota in Redis, PostgreSQL behind",
                    QUEUED,
                    "postgres-redis",
                    ("postgres", "redis"),
                    (),
                ),
                (
                    "postgres-redis-synced",
                    "4, answered after the batch",
                    SYNCED,
                    "postgres-redis",
                    ("postgres", "redis"),
                    ("--answer", "after-batch"),
                ),
            )
        ),
        Baseline("actix", "actix-web, a constant", "ceiling", NO_SALE, program="constant-actix"),
        Baseline("ntex", "ntex, a constant", "ceiling", NO_SALE, program="constant-ntex"),
        ConstantNginx(),
        Front(),
    )
}
