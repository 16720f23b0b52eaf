"""Serve the reports of a store on the loopback address: read only.

A browser that was led here under another host's name (DNS rebinding) is refused, as is any method
but GET and HEAD. `site.pages` makes the pages.
"""

import os
import re
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lstm_harness.model.errors import UserError
from lstm_harness.site.pages import Pages, Refused

LOOPBACK = "127.0.0.1"
METHODS = ("GET", "HEAD")
# A connection on which nothing moves for this long is closed.
SILENCE_S = 10.0
# So is one whose request takes this long in all, from its first byte to the answer's last.
DEADLINE_S = 60.0
PART_BYTES = 1 << 16

_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.IGNORECASE)
# In addition to each page's own policy: a report from elsewhere may fetch what pages share alone.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'unsafe-inline'; "
        "style-src 'self' 'unsafe-inline'; "
        "img-src data: blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def serve(pages: Pages, port: int, browser: bool, announce: Callable[[str, str], None]) -> None:
    """Serve a run's or a store's pages until interrupted.

    Args:
        announce: told the address once it answers, and how to reach it over SSH, or "".
    Raises:
        UserError: the port is taken.
    """
    with server(pages, port) as listening:
        taken = listening.server_address[1]
        assert isinstance(taken, int)
        address = f"http://{LOOPBACK}:{taken}/{pages.first}"
        far = forwarding(taken, os.environ)
        announce(address, far)
        if browser and not far:
            webbrowser.open(address)
        try:
            listening.serve_forever()
        except KeyboardInterrupt:
            return


def forwarding(port: int, environment: Mapping[str, str]) -> str:
    """What to type on one's own machine to reach a port of this one; empty where no SSH is seen."""
    ends = environment.get("SSH_CONNECTION", "").split()
    if not ends:
        return ""
    known = len(ends) == 4 and re.fullmatch(r"[0-9A-Fa-f:.]+", ends[2])
    host = ends[2] if known else socket.gethostname()
    own_port = f"-p {ends[3]} " if known and ends[3].isdigit() and ends[3] != "22" else ""
    user = environment.get("USER") or "USER"
    return f"ssh {own_port}-L {port}:{LOOPBACK}:{port} {user}@{host}"


def server(pages: Pages, port: int) -> "Server":
    """A server of a store's pages; port 0 takes a free one.

    Raises:
        UserError: the port is taken.
    """
    try:
        return Server((LOOPBACK, port), partial(_Handler, pages))
    except OSError as error:
        raise UserError(f"cannot listen on port {port}: {error.strerror}; give another") from None


class Server(ThreadingHTTPServer):
    """A thread a connection; one that breaks says nothing, one that fails says a line."""

    request_queue_size = 512

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report a fault of ours, and never a client that went away."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            told = f"lstm-bench: {type(error).__name__}: {error}"
            print(told, file=sys.stderr)  # noqa: T201 - the only place a server can tell it


class _Handler(BaseHTTPRequestHandler):
    """One connection: refuse what is not meant for a reader on this machine, answer the rest."""

    timeout = SILENCE_S

    def handle_one_request(self) -> None:
        """Answer one request within its time, however slow its client is."""
        late = threading.Timer(DEADLINE_S, self._give_up)
        late.daemon = True
        late.start()
        try:
            super().handle_one_request()
        finally:
            late.cancel()

    def _give_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def __init__(self, pages: Pages, *arguments: Any) -> None:
        self._pages = pages
        super().__init__(*arguments)

    def parse_request(self) -> bool:
        """Whether a request is one to answer; any other has its answer already."""
        if not super().parse_request():
            return False
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0].strip()):
            self.send_error(421, f"this server is {LOOPBACK} and localhost only")
            return False
        if self.command not in METHODS:
            self.send_error(405, f"only {' and '.join(METHODS)}")
            return False
        return True

    def do_GET(self) -> None:
        """Answer with a page or a run's file."""
        try:
            sent = self._pages.answer(self.path)
        except Refused as refused:
            self.send_error(refused.status, refused.line)
            return
        if sent.file is None:
            self._head(200, sent.kind, len(sent.content))
            self._body(sent.content)
            return
        with os.fdopen(sent.file, "rb") as file:
            self._head(200, sent.kind, sent.size, sent.name)
            left = sent.size if self.command == "GET" else 0
            # Never more than the announced length: a run in progress appends to its records.
            while left and (part := file.read(min(left, PART_BYTES))):
                self.wfile.write(part)
                left -= len(part)

    def do_HEAD(self) -> None:
        """The same without the body."""
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer that there will be none, and why, as plain text."""
        del explain
        said = " ".join((message or self.responses.get(code, ("refused", ""))[0]).split())
        content = f"{code}: {said}\n".encode("utf-8", "replace")
        self.close_connection = True
        self._head(code, "text/plain; charset=utf-8", len(content))
        self._body(content)

    def version_string(self) -> str:
        """Who answers."""
        return "lstm-bench"

    def log_message(self, *_: object) -> None:
        """Say nothing; the terminal belongs to the address."""

    def _head(self, status: int, kind: str, size: int, name: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        if name:
            self.send_header("Content-Disposition", f'attachment; filename="{name}"')
        if status == 405:
            self.send_header("Allow", ", ".join(METHODS))
        for header, value in _HEADERS.items():
            self.send_header(header, value)
        self.end_headers()

    def _body(self, content: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(content)
