"""A real S3 server, moto's, which can be told to fail, to cut answers off and to be slow.

As a program it serves a bucket, lab, at every address of its network: its argument is the port.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

BUCKET = "lab"
ERROR = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>%s</Code><Message>%s on purpose</Message></Error>"
)
STATUS = {
    "fail": ("500 Internal Server Error", ERROR % (b"InternalError", b"failed")),
    "deny": ("403 Forbidden", ERROR % (b"AccessDenied", b"denied")),
}
# What a client finds by itself, through s3fs.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "of-a-test",
    "AWS_SECRET_ACCESS_KEY": "secret/of+a-test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass
class Fault:
    """What goes wrong with the next requests of a method at paths that end so.

    `fail` and `deny` answer with an error; `lose` does what was asked, then answers with one; `cut`
    leaves off the end of the answer and `spoil` changes it; `wait` takes half a second.
    """

    kind: str
    method: str
    ends: str
    times: int = 1


class Server:
    """Answers as moto does, but for the faults that are in the list; keeps what was asked."""

    def __init__(self, port: int = 0, address: str = "127.0.0.1") -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer = make_server(
            address, port, self._answer, threaded=True, request_handler=_Silent
        )
        # In S3 a conditional write is atomic; in moto it is two steps.
        self._writing = threading.Lock()
        self.url = f"http://127.0.0.1:{self._server.port}"
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []

    def start(self) -> None:
        """Serve from another thread."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def serve(self) -> None:
        """Serve until the process ends."""
        self._server.serve_forever()

    def stop(self) -> None:
        """Stop to serve."""
        self._server.shutdown()

    def asked(self, method: str) -> list[str]:
        """The paths of the requests of a method since `requests` was cleared."""
        return [path for asked, path in self.requests if asked == method]

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        fault = self._fault(method, path)
        if fault in STATUS:
            return _error(start, fault)
        if fault == "wait":
            time.sleep(0.5)
        answer = _Answer()
        if method in ("PUT", "POST"):
            with self._writing:
                content = b"".join(self._moto(environ, answer))
        else:
            content = b"".join(self._moto(environ, answer))
        if fault == "lose":
            return _error(start, "fail")
        if fault == "cut":
            content = content[: len(content) // 2]
        if fault == "spoil":
            content = bytes([content[0] ^ 1]) + content[1:]
        headers = [each for each in answer.headers if each[0].lower() != "content-length"]
        length = dict(answer.headers).get("Content-Length") if method == "HEAD" else len(content)
        start(answer.status, [*headers, ("Content-Length", str(length or 0))])
        return [content]

    def _fault(self, method: str, path: str) -> str:
        for fault in self.faults:
            if fault.times and method == fault.method and path.endswith(fault.ends):
                fault.times -= 1
                return fault.kind
        return ""


class _Answer:
    """What moto begins an answer with."""

    def __call__(self, status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        self.status, self.headers = status, headers


class _Silent(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Nothing."""


def _error(start: Callable[..., Any], kind: str) -> list[bytes]:
    status, content = STATUS[kind]
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(content)))])
    return [content]


def main() -> None:
    """Serve, and say so once the bucket is there."""
    import boto3

    server = Server(int(sys.argv[1]), "0.0.0.0")
    server.start()
    boto3.client("s3", endpoint_url=server.url).create_bucket(Bucket=BUCKET)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
