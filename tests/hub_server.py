"""A small Hugging Face Hub for tests, in memory and on 127.0.0.1, for the real client libraries.

    with HubServer() as hub:
        hub.add_repo("dataset", "me/words", {"README.md": b"..."})
        hub.fail(r"/resolve/", status=503, times=2)
        subprocess.run([...], env=hub.env(tmp_path))
        statuses = [request.status for request in hub.requests if "/resolve/" in request.path]
        assert statuses[:3] == [503, 503, 200]  # hub.requests[0] is the client's GET /api/agent-harnesses

tests/hub_protocol.py says what it answers to whom.
"""

import contextlib
import json
import os
import re
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from tests.hub_protocol import WRITE_TOKEN, Routes
from tests.hub_repo import HubError, Repo

LOCAL_SETTINGS = ("HF_", "HUGGING", "TRANSFORMERS_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class Request(NamedTuple):
    """One line of the log. `path` has the query; `status` is 0 where the connection was cut unanswered."""

    method: str
    path: str
    status: int


@dataclass
class Fault:
    path: str
    status: int | None = None
    times: int | None = 1
    method: str | None = None
    delay: float = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    corrupt: bool = False


class HubServer:
    """The Hub: a context manager, and `start` and `stop` for tests that take it away and bring it back."""

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}  # (model or dataset, id) -> repo
        self.lfs: dict[str, bytes] = {}  # sha256 -> content
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self.port = 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self) -> None:
        """Listen; after a `stop`, on the same port again."""
        self.listener = Listener(("127.0.0.1", self.port), Connection)
        self.listener.hub = self
        self.port = self.listener.server_port
        threading.Thread(target=self.listener.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """From here on connections are refused, and those that clients kept open are closed."""
        self.listener.shutdown()
        self.listener.server_close()
        for connection in list(self.listener.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage_url(self) -> str:
        """Where LFS contents are: another host, as on the real Hub, so clients don't send it their token."""
        return f"http://localhost:{self.port}"

    def page(self, repo: Repo) -> str:
        return f"{self.url}/{'datasets/' if repo.kind == 'dataset' else ''}{repo.id}"

    def env(self, home: Path, token: str | None = WRITE_TOKEN) -> dict[str, str]:
        """The whole environment for a child: this process's, without its own Hub and proxy settings."""
        kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(LOCAL_SETTINGS)}
        ours = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        return kept | ours | ({"HF_TOKEN": token} if token else {})

    def add_repo(self, kind: str, id: str, files: dict[str, bytes] | None = None, **flags: bool) -> Repo:
        """A repo of `kind` model or dataset with one commit; flags: `private`, `gated`."""
        repo = self.repos[kind, id] = Repo(kind, id, **flags)
        repo.commit(files or {}, "initial commit")
        return repo

    def fail(self, path: str, status: int | None = None, **how: Any) -> None:
        """Make the next `times` requests (None: all) go wrong whose path has a match of the regex `path`.

        `how` has fields of Fault: `method` is the only one to fail; `status` answers with an error and
        `headers`; without it they work as usual, but `delay` waits that many seconds first, `cut` closes the
        connection after that many bytes of an upload's or an answer's body, `corrupt` changes one byte of it.
        """
        self.faults.append(Fault(path, status, **how))

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times != 0 and fault.method in (None, method) and re.search(fault.path, path):
                    fault.times = fault.times and fault.times - 1
                    return fault
        return None


class Listener(ThreadingHTTPServer):
    hub: HubServer
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args):
        self.connections: set[socket.socket] = set()
        super().__init__(*args)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # a client may leave when it likes
            super().handle_error(request, client_address)


class Connection(Routes):
    """Bytes in, bytes out, and the faults that were asked for in between."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes
    server: Listener

    def setup(self):
        super().setup()
        self.hub = self.server.hub
        self.server.connections.add(self.connection)

    def finish(self):
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def handle_request(self):
        fault = self.hub.take_fault(self.command, self.path) or Fault("")
        time.sleep(fault.delay)
        upload = self.command in ("PUT", "POST")
        size = int(self.headers.get("Content-Length", 0))
        if upload and fault.cut is not None:
            self.rfile.read(min(fault.cut, size))
            self.hub.requests.append(Request(self.command, self.path, 0))
            self.close_connection = True
            return
        self.body = self.rfile.read(size)
        if upload and fault.corrupt:
            self.body = flip(self.body)
        try:
            if fault.status:
                raise HubError(fault.status, "A fault that the test asked for", **fault.headers)
            reply = self.answer()
            status, body, headers = reply if isinstance(reply, tuple) else (200, reply, {})
        except HubError as error:
            status, body, headers = error.reply
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send(status, flip(body) if fault.corrupt and not upload else body, headers, fault.cut)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None) -> None:
        self.hub.requests.append(Request(self.command, self.path, status))
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        self.close_connection |= cut is not None


def flip(data: bytes) -> bytes:
    """`data` with its middle byte changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data
