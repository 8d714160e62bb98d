"""Load generators. All send the same requests: a POST for one ticket.

- wrk: a closed loop over 80 connections with the least client CPU. Latencies in microseconds,
  with wrk's own correction for responses that took at least twice the mean.
- autocannon: the same from one Node process, which uses a whole core; latencies in milliseconds.
- oha: a constant rate. The latency of a request is measured from its scheduled time, also if it
  was sent later because the server is slow (correction of coordinated omission).
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Iterable, Sequence

from . import process, tools

OHA_VERSION = "1.16.0"

HERE = Path(__file__).parent
LOAD_TEST = HERE.parent
TARGET = LOAD_TEST.parent / "target"
TOOLS = TARGET / "bench-tools"

# The number of different requests that a load repeats.
REQUEST_COUNT = 1000

# The time besides the duration of a load: connecting, evaluation, delays on a busy machine.
SECONDS_BEYOND = 30.0

RESERVE = "POST /api/v1/events/{event}/reservations"
BODY = '{"quantity":1}'


class LoadError(Exception):
    """The output of a load generator cannot be parsed."""


@dataclass(frozen=True)
class Load:
    """The result of a load generator."""

    answered: int
    # The responses with 201. wrk counts those below 400, unless it inspects each response.
    created: int
    # The responses by other status; "other" for those that wrk does not distinguish.
    refused: dict[str, int]
    # Refused and broken connections, and timeouts.
    errors: int
    seconds: float
    # p50, p99, p99_9; empty if the generator does not measure them.
    latency_us: dict[str, float]

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds

    def as_json(self) -> dict:
        return {**asdict(self), "per_second": self.per_second}


def write_requests(file: Path, tokens: Sequence[str], events: Sequence[int], target: str = RESERVE) -> None:
    """Writes the requests of all load generators: customers in turn, events chosen with a fixed seed.

    One request per line: method, path and token, separated by tabs.
    """
    method, path = target.split(" ")
    drawn = [events[index % len(events)] for index in range(max(REQUEST_COUNT, len(events)))]
    random.Random(1).shuffle(drawn)
    lines = (
        f"{method}\t{path.format(event=event)}\t{tokens[index % len(tokens)]}\n"
        for index, event in enumerate(drawn)
    )
    file.write_text("".join(lines))


class Wrk:
    """A running load; `finish` waits for its end, `interrupt` ends it early."""

    def __init__(
        self,
        url: str,
        requests: Path,
        *,
        seconds: float,
        connections: int = 80,
        threads: int = 1,
        pipelined: int = 1,
        cpus: Iterable[int] | None = None,
        look: bool = False,
    ) -> None:
        program = tools.require("wrk")
        self._seconds = seconds
        # wrk accepts whole seconds only.
        command = [program, f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        command += ["-s", HERE / "wrk.lua", url, "--", requests, str(pipelined), "1" if look else "0"]
        log = requests.with_suffix(".wrk.log")
        log.write_text("")
        self._server = process.Server(command, log=log, cpus=cpus)

    def made(self) -> list[str]:
        """The ids of the reservations answered 201, if wrk inspects responses (`look`)."""
        return parse_made(self._server.output())

    def interrupt(self) -> None:
        """Ends wrk early; it still prints its result."""
        self._server.interrupt()

    def finish(self) -> Load:
        self._server.wait(self._seconds + SECONDS_BEYOND)
        return parse_wrk(self._server.output())


def wrk(url: str, requests: Path, **options) -> Load:
    """Runs wrk; the options are those of `Wrk`."""
    return Wrk(url, requests, **options).finish()


def autocannon(url: str, requests: Path, *, seconds: float, connections: int = 80, cpus=None) -> Load:
    install_autocannon()
    command = ["node", HERE / "autocannon.js", url, requests, str(connections), str(max(1, round(seconds)))]
    return parse_autocannon(process.run(command, cpus=cpus, seconds=seconds + SECONDS_BEYOND))


def oha(url: str, requests: Path, *, per_second: int, seconds: float, connections: int = 80, cpus=None) -> Load:
    """Sends `per_second` requests, all by the first customer, since oha has one set of headers."""
    install_oha()
    lines = [line.split("\t") for line in requests.read_text().splitlines()]
    urls = requests.with_suffix(".urls")
    urls.write_text("".join(f"{url}{path}\n" for _, path, _ in lines))
    command = [TOOLS / "bin" / "oha", "--no-tui", "--output-format", "json", "--no-color"]
    command += ["--latency-correction", "--wait-ongoing-requests-after-deadline", "-q", str(per_second), "-z", f"{seconds}s", "-c", str(connections)]
    method, _, token = lines[0]
    command += ["-m", method, "-H", f"Authorization: Bearer {token}", "--urls-from-file"]
    command += ["-d", BODY, "-H", "Content-Type: application/json"] if method == "POST" else []
    command += [urls]
    return parse_oha(process.run(command, cpus=cpus, seconds=seconds + SECONDS_BEYOND))


def parse_wrk(output: str) -> Load:
    result = _result_line(output)
    answered, not_2xx, statuses = result["answered"], result["not_2xx"], result["statuses"]
    if statuses:
        created = statuses.get("201", 0)
        refused = {status: count for status, count in sorted(statuses.items()) if status != "201"}
    else:
        created = answered - not_2xx
        refused = {"other": not_2xx} if not_2xx else {}
    return Load(
        answered=answered,
        created=created,
        refused=refused,
        errors=sum(result["errors"].values()),
        seconds=result["duration_us"] / 1e6,
        # wrk's correction is wrong for pipelined requests, which it takes for late ones.
        latency_us=result["latency_us"] if result["pipelined"] == 1 else {},
    )


def parse_made(output: str) -> list[str]:
    match = re.search(r"^made (.*)$", output, re.MULTILINE)
    if match is None:
        raise LoadError("wrk printed no reservations: it did not inspect responses, or there were none")
    return match[1].split()


def parse_autocannon(output: str) -> Load:
    result = _result_line(output)
    statuses = dict(result["statuses"])
    return Load(
        answered=result["answered"],
        created=statuses.pop("201", 0),
        refused=statuses,
        errors=result["errors"],
        seconds=result["duration_s"],
        latency_us={name: value * 1000 for name, value in result["latency_ms"].items()},
    )


def parse_oha(output: str) -> Load:
    result = json.loads(output)
    statuses = dict(result["statusCodeDistribution"])
    answered = sum(statuses.values())
    # Requests in flight at the end are aborted by oha, which is not an error of the server.
    errors = {reason: count for reason, count in result["errorDistribution"].items() if reason != "aborted due to deadline"}
    percentiles = result["latencyPercentiles"]
    return Load(
        answered=answered,
        created=statuses.pop("201", 0),
        refused=statuses,
        errors=sum(errors.values()),
        seconds=result["summary"]["total"],
        latency_us={
            name: round(percentiles[key] * 1e6, 1)
            for name, key in (("p50", "p50"), ("p99", "p99"), ("p99_9", "p99.9"))
            if percentiles[key] is not None
        },
    )


def install_autocannon() -> None:
    """Installs autocannon with the version of package-lock.json."""
    installed = LOAD_TEST / "node_modules" / ".package-lock.json"
    wanted = LOAD_TEST / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        process.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], directory=LOAD_TEST)


def install_oha() -> None:
    """Installs oha OHA_VERSION under target/; takes some minutes, once."""
    program = TOOLS / "bin" / "oha"
    if program.exists() and OHA_VERSION in subprocess.check_output([program, "--version"], text=True):
        return
    print(f"installing oha {OHA_VERSION} under {TOOLS} (some minutes, once)", flush=True)
    command = ["cargo", "install", "oha", "--version", OHA_VERSION, "--locked", "--root", TOOLS]
    process.run(command, seconds=3600, environment={"CARGO_TARGET_DIR": str(TOOLS / "build")})
    # The build directory, a gigabyte, is not needed again.
    shutil.rmtree(TOOLS / "build")


def _result_line(output: str) -> dict:
    match = re.search(r"^result (\{.*\})$", output, re.MULTILINE)
    if match is None:
        last = "\n".join(output.splitlines()[-15:])
        raise LoadError(f"the load generator printed no result:\n{last}")
    return json.loads(match[1])
