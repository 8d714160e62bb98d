"""Sends an exact number of pipelined requests, to fill a server without measuring.

Load generators run for a duration; this ends when each request was answered with 201.
"""

from __future__ import annotations

import re
import socket
import threading
from typing import Callable, Sequence
from urllib.parse import urlsplit

# With the requests of a write, below the server's maximum of 4096 requests in flight per core.
CONNECTIONS = 32
# The server reads at most 128 requests of a connection at a time.
REQUESTS_A_WRITE = 100

CREATED = b"HTTP/1.1 201 "
TIMEOUT_SECONDS = 60.0
READ_BYTES = 1 << 18


class PipelineError(Exception):
    """A response other than 201."""


def request(host: str, path: str, token: str, body: str) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"
    ).encode()


def host_of(url: str) -> str:
    return urlsplit(url).netloc


def send_all(
    url: str,
    requests: Sequence[bytes],
    count: int,
    answered: Callable[[bytes], None] = lambda answers: None,
    *,
    connections: int = CONNECTIONS,
) -> None:
    """Sends `count` requests, repeating `requests`; returns when all were answered with 201.

    `answered` is called with the bytes of complete responses, many at a time, from several threads
    but not concurrently.
    """
    writes = [requests[at : at + REQUESTS_A_WRITE] for at in range(0, len(requests), REQUESTS_A_WRITE)]
    blobs = [(b"".join(write), len(write)) for write in writes]
    lock = threading.Lock()
    left, turn, failure = count, 0, None

    def next_write() -> tuple[bytes, int] | None:
        nonlocal left, turn
        with lock:
            if left == 0 or failure is not None:
                return None
            blob, size = blobs[turn % len(blobs)]
            if size > left:
                size = left
                blob = b"".join(writes[turn % len(blobs)][:size])
            left -= size
            turn += 1
            return blob, size

    def work() -> None:
        nonlocal failure
        try:
            with socket.create_connection(_address(url), timeout=TIMEOUT_SECONDS) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (write := next_write()) is not None:
                    blob, size = write
                    connection.sendall(blob)
                    answers = _read_answers(connection, size)
                    with lock:
                        answered(answers)
        except Exception as reason:
            failure = reason

    threads = [threading.Thread(target=work, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        # With a timeout, so that Ctrl-C is handled.
        while thread.is_alive():
            thread.join(0.2)
    if failure is not None:
        raise failure


def _read_answers(connection: socket.socket, count: int) -> bytes:
    """Reads until `count` responses are complete."""
    received = bytearray()
    found = scanned = 0
    while True:
        part = connection.recv(READ_BYTES)
        if not part:
            raise PipelineError(
                f"the server closed the connection after {found} of {count} answers:\n{_tail(received)}"
            )
        received += part
        # A status line received in two parts is searched again from its beginning.
        found += received.count(CREATED, scanned)
        scanned = max(scanned, len(received) - len(CREATED) + 1)
        if found == count and _ends_whole(received):
            return bytes(received)
        if found < count:
            _refuse_other_statuses(received, found)


def _refuse_other_statuses(received: bytearray, found: int) -> None:
    """Checks only the newest complete response, which is enough to detect refusals."""
    at = received.rfind(b"HTTP/1.1 ")
    if len(received) - at >= len(CREATED) and not received.startswith(CREATED, at):
        raise PipelineError(f"after {found} answers of 201:\n{received[at : at + 1000].decode(errors='replace')}")


def _ends_whole(received: bytearray) -> bool:
    at = received.rfind(CREATED)
    head_end = received.find(b"\r\n\r\n", at)
    if head_end < 0:
        return False
    length = re.search(rb"\r\ncontent-length: (\d+)", received[at:head_end], re.IGNORECASE)
    return length is not None and len(received) - head_end - 4 >= int(length[1])


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname, parts.port


def _tail(received: bytearray) -> str:
    return bytes(received[-1000:]).decode(errors="replace")
