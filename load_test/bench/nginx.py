"""nginx, as a measure of HTTP alone: every response is a constant of the size of boxoffice's response."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import process, tools

# The headers that nginx adds itself.
OWN_HEADERS = {"date", "content-type", "content-length", "connection", "server", "transfer-encoding"}

CONFIGURATION = """\
daemon off;
worker_processes {workers};
pid {directory}/pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    server_tokens off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} reuseport;
        default_type {content_type};
{headers}
        # Reads and discards the request body.
        return {status} '{body}';
    }}
}}
"""


class NginxError(Exception):
    """A response that cannot be written in nginx's configuration."""


@dataclass(frozen=True)
class Answer:
    """A response of a server."""

    status: int
    headers: dict[str, str]
    body: str


def ask(url: str, event: int, token: str) -> Answer:
    """Reserves one ticket and returns the response."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", f"/api/v1/events/{event}/reservations", json.dumps({"quantity": 1}), headers)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read().decode())
    finally:
        connection.close()


class Nginx(process.PrivateServer):
    """A private nginx."""

    def __init__(self, directory: Path, answer: Answer, *, workers: int, connections: int = 4096, **placed) -> None:
        """`connections` is the maximum per worker; `placed` is as in `PrivateServer`."""
        self._answer = answer
        self._workers = workers
        self._connections = connections
        super().__init__(directory, **placed)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        file = self.directory / "nginx.conf"
        text = configuration(
            self._answer,
            directory=self.directory,
            port=self.port,
            workers=self._workers,
            connections=self._connections,
        )
        file.write_text(text)
        server = self.run([tools.require("nginx"), "-p", self.directory, "-c", file, "-e", "stderr"])
        server.wait_until(lambda: process.listens(self.port), "connections on its port")


def configuration(answer: Answer, *, directory: Path, port: int, workers: int, connections: int) -> str:
    headers = {name.title(): value for name, value in answer.headers.items()}
    added = [
        f"        add_header {name} {_quoted(value)} always;"
        for name, value in headers.items()
        if name.lower() not in OWN_HEADERS
    ]
    return CONFIGURATION.format(
        directory=directory,
        port=port,
        workers=workers,
        connections=connections,
        content_type=headers.get("Content-Type", "application/json"),
        headers="\n".join(added),
        status=answer.status,
        body=_quoted(answer.body)[1:-1],
    )


def _quoted(text: str) -> str:
    if set(text) & set("$\\'\r"):
        raise NginxError(f"nginx's configuration cannot contain this text: {text!r}")
    escaped = text.replace("\n", "\\n")
    return f"'{escaped}'"
