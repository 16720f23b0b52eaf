"""Open a report, or serve a folder of runs on the loopback address."""

import html
import webbrowser
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

from lstm_harness import store
from lstm_harness.errors import UserError

LOOPBACK = "127.0.0.1"


def open_report(run: Path, browser: bool) -> Path:
    """Open a run's report in the browser and return its path.

    Raises:
        UserError: the run has none yet.
    """
    report = run / store.REPORT
    if not report.is_file():
        raise UserError(f"{run} has no report yet; make it with: lstm-bench report {run}")
    if browser:
        webbrowser.open(report.resolve().as_uri())
    return report


def runs_in(folder: Path) -> list[Path]:
    """The runs of a store, newest name first, at any depth."""
    found = (manifest.parent for manifest in folder.rglob(store.MANIFEST))
    return sorted(found, key=lambda run: run.name, reverse=True)


def serve(folder: Path, port: int, browser: bool, announce: Callable[[str], None]) -> None:
    """Serve a store until interrupted, its address announced once it answers."""
    with server(folder, port) as listening:
        address = f"http://{LOOPBACK}:{listening.server_address[1]}/"
        announce(address)
        if browser:
            webbrowser.open(address)
        listening.serve_forever()


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of the reports in a store; port 0 takes a free one.

    Raises:
        UserError: no run there, or the port is taken.
    """
    if not runs_in(folder):
        raise UserError(f"{folder} holds no run; give a run, or a folder of runs")
    try:
        return ThreadingHTTPServer((LOOPBACK, port), partial(_Handler, folder))
    except OSError as error:
        raise UserError(f"cannot listen on port {port}: {error.strerror}; give another") from None


class _Handler(BaseHTTPRequestHandler):
    """Serves the list of runs and their reports; any other path does not exist."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self._folder = folder
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer with the index or with one run's report."""
        page = self._page(unquote(self.path).strip("/"))
        if page is None:
            self.send_error(404, "no such report")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Say nothing; the terminal belongs to the address."""

    def _page(self, path: str) -> bytes | None:
        host = self.headers.get("Host", "").partition(":")[0]
        if host not in (LOOPBACK, "localhost"):
            return None
        reports = {str(run.relative_to(self._folder)): run for run in runs_in(self._folder)}
        if not path:
            return _index(reports).encode()
        report = reports[path] / store.REPORT if path in reports else None
        return report.read_bytes() if report and report.is_file() else None


def _index(reports: dict[str, Path]) -> str:
    items = []
    for name, run in reports.items():
        shown = html.escape(name if name != "." else run.resolve().name)
        link = f'<a href="/{quote(name)}">{shown}</a>' if (run / store.REPORT).is_file() else shown
        items.append(f"<li>{link}</li>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>lstm-bench runs</title>'
        "<style>body{font:16px/1.6 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem;"
        "color-scheme:light dark}li{overflow-wrap:anywhere}</style>"
        f"<h1>Runs</h1><ul>{''.join(items)}</ul></html>"
    )
