"""The server of a store: what it sends, what it refuses, and that nobody makes it stop."""

import hashlib
import http.client
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urljoin

import bench
import pytest
from bench import environment
from synthetic_runs import blocks
from synthetic_store import put, start
from waiting import PATIENCE_S

from lstm_harness.model.errors import UserError
from lstm_harness.report import page
from lstm_harness.site import cards, pages
from lstm_harness.site import server as view
from lstm_harness.site.pages import Pages
from lstm_harness.store import run_folder
from lstm_harness.store.files import derived

OWN = "<!doctype html><title>the run's own report</title>"
HOSTILE = "<b>&? #\"'"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def runs(tmp_path):
    """A store of three runs, one below a folder whose name HTML and URLs both must quote."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "run.json").write_text('"secret"')
    folder = tmp_path / "store"
    put(folder / "first", blocks("naive", [100_000, 101_000, 102_000]), start=start(0), label="old")
    put(
        folder / "second", blocks("naive", [200_000, 201_000, 202_000]), start=start(1), label="new"
    )
    put(folder / "deeper" / HOSTILE, blocks("aten", [50_000] * 3), start=start(2), suite="other")
    return folder


@pytest.fixture
def patience(monkeypatch):
    """Limit what a server waits for; at first it waits long, as on a slow machine it must."""

    def at_most(silence_s=PATIENCE_S, deadline_s=PATIENCE_S):
        monkeypatch.setattr(view._Handler, "timeout", silence_s)
        monkeypatch.setattr(view, "DEADLINE_S", deadline_s)

    at_most()
    return at_most


@pytest.fixture
def server(runs, patience):
    """A real server of the store in a thread."""
    with view.server(Pages(runs), 0) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def listening(server):
    """Its address."""
    return server.server_address


@pytest.fixture
def ask(listening):
    """Ask the server; returns status, headers and body."""

    def go(path, method="GET", **headers):
        connection = http.client.HTTPConnection(*listening, timeout=PATIENCE_S)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, dict(answer.headers), body

    return go


def raw(address, sent):
    """Send these bytes as they are and return all that comes back."""
    with socket.create_connection(address, timeout=PATIENCE_S) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def links(html):
    return [part.split('"')[0].replace("&amp;", "&") for part in html.split(' href="')[1:]]


def everything(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.is_symlink()}


def test_it_listens_on_loopback_alone(listening):
    assert listening[0] == "127.0.0.1"


def test_every_link_of_the_index_leads_somewhere(ask):
    status, _, html = ask("/")
    assert status == 200
    found = [link for link in links(html) if not link.startswith(("#", "data:"))]
    assert len(found) == 3 * 3 + 4
    for link in found:
        assert ask(f"/{link}")[0] == 200, link
    assert "&lt;b&gt;&amp;? #" in html
    assert "<b>&" not in html


def test_a_device_classes_page_is_made_and_every_link_of_it_leads_somewhere(ask):
    (where,) = (link for link in links(ask("/")[2]) if link.startswith("devices/"))
    status, _, html = ask(f"/{where}")
    assert status == 200
    assert "What was refused, and why?" in html
    found = [link for link in links(html) if link.startswith("../")]
    assert found
    for link in found:
        assert ask(link.removeprefix(".."))[0] == 200, link
    assert ask("/devices/another-00000000.html")[0] == 404


SHARED = re.compile(r'(?:src|href)="((?:\.\./)*/?assets/[^"]+)"')


@pytest.mark.parametrize(
    ("path", "shares"),
    [
        ("/", 2),
        ("/history.html", 3),
        ("/runs/first/report.html", 3),
        ("/compare?base=first&new=second", 3),
    ],
)
def test_what_pages_share_is_sent_apart_as_what_it_is(ask, path, shares):
    found = SHARED.findall(ask(path)[2])
    assert len(found) == shares
    for address in found:
        status, headers, body = ask(urljoin(path, address))
        assert status == 200
        assert headers["Content-Type"].startswith(
            "text/css" if ".css" in address else "text/javascript"
        )
        digest = hashlib.sha256(body.encode()).hexdigest()
        assert digest[:16] in address


def test_no_other_file_is_among_what_pages_share(ask):
    for name in ("", "plotly.js", "plotly-0000000000000000.js", "../run.json", "%2e%2e/run.json"):
        assert ask(f"/assets/{name}")[0] == 404


def test_a_missing_report_is_made_in_memory_and_nothing_is_written(ask, runs):
    before = everything(runs)
    for path in ("/", "/history.html", "/compare?base=first&new=second"):
        assert ask(path)[0] == 200
    status, headers, html = ask("/runs/first/report.html")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Which backend should I use?" in html
    assert everything(runs) == before


def test_a_report_newer_than_its_records_is_sent_and_an_older_one_made_anew(ask, runs):
    report = runs / "first" / run_folder.REPORT
    report.write_text(OWN)
    assert ask("/runs/first/report.html")[2] == OWN
    os.utime(report, (1, 1))
    assert "Which backend should I use?" in ask("/runs/first/report.html")[2]
    assert report.read_text() == OWN


def test_a_page_is_made_once(ask, monkeypatch):
    made, really = [], page.render
    monkeypatch.setattr(page, "render", lambda *all, **how: made.append(1) or really(*all, **how))
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: ask("/runs/first/report.html")[0], range(20)))
    assert answers == [200] * 20
    assert made == [1]


def test_a_runs_files_are_downloads_and_as_they_lie_there(ask, runs):
    for name in (run_folder.MANIFEST, run_folder.RECORDS):
        status, headers, body = ask(f"/runs/first/{name}")
        assert (status, body) == (200, (runs / "first" / name).read_text())
        assert headers["Content-Disposition"] == f'attachment; filename="{name}"'


def test_two_runs_are_judged_side_by_side(ask):
    _, _, html = ask("/compare?base=first&new=second")
    assert "2 runs side by side" in html
    section = html.partition('<section id="verdicts"')[2].partition("</section>")[0]
    assert "REGRESSION" in section
    assert html.index('<section id="verdicts"') < html.index('<section id="map"')
    assert ask("/runs/second/compare.html")[2] == html


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("base=first", 400),
        ("base=first&new=first", 400),
        ("base=first&new=nobody", 404),
        ("base=../secret&new=first", 404),
        ("base=%2e%2e%2fsecret&new=first", 404),
        ("a=1&" * 50, 400),
        ("base=first&new=%ff%00", 404),
    ],
)
def test_what_to_compare_is_looked_up_and_nothing_else(ask, query, status):
    found, _, body = ask(f"/compare?{query}")
    assert found == status
    assert "secret" not in body


OUTSIDE = [
    "/../secret/run.json",
    "/%2e%2e/secret/run.json",
    "/%252e%252e/secret/run.json",
    "/..%2fsecret%2frun.json",
    "/..\\secret\\run.json",
    "/..%5csecret%5crun.json",
    "/runs/../../secret/run.json",
    "/runs/%2e%2e/run.json",
    "/runs/../run.json",
    "/runs/./run.json",
    "/runs/first/../../secret/run.json",
    "/runs/first%00/run.json",
    "//etc/passwd",
    "///etc/passwd",
    "/etc/passwd",
    "/runs//etc/passwd",
    "/runs/first",
    "/runs/first/",
    "/runs/first/.history-index.json",
    "/runs/first/secret.txt",
    "/runs/first/compare.html",
    "/runs/link/run.json",
    "/runs/nobody/report.html",
    "/.",
    "/..",
    "/%00",
    "/nowhere",
    "http://127.0.0.1/runs/first/run.json",
    "file:///etc/passwd",
    "*",
]
MALFORMED = ["http://[", "//[/"]


@pytest.mark.parametrize("target", OUTSIDE)
def test_nothing_but_pages_and_records_is_sent(listening, runs, target):
    (runs / "first" / "secret.txt").write_text("secret")
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    answer = raw(listening, request)
    assert answer.startswith(b"HTTP/1.0 404 ")
    assert b"secret" not in answer.replace(b"secret/run.json", b"")
    assert b"root:" not in answer


@pytest.mark.parametrize("target", MALFORMED)
def test_what_is_no_address_is_told(listening, target, capfd):
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    assert raw(listening, request).split()[1] in (b"400", b"404")
    assert capfd.readouterr().err == ""


def test_links_out_of_the_store_are_not_followed(tmp_path, runs):
    (runs / "link").symlink_to(tmp_path / "secret")
    (runs / "half").mkdir()
    (runs / "half" / run_folder.MANIFEST).symlink_to(tmp_path / "secret" / "run.json")
    found = Pages(runs)
    assert "half" in found.answer("/").content.decode().partition('id="left-out"')[2]
    for name in ("link", "half"):
        with pytest.raises(pages.Refused, match="no such run"):
            found.answer(f"/runs/{name}/run.json")
    for name in (run_folder.RECORDS, run_folder.REPORT):
        (runs / "first" / name).unlink(missing_ok=True)
        (runs / "first" / name).symlink_to(tmp_path / "secret" / "run.json")
    with pytest.raises(pages.Refused, match="no such file"):
        found.answer("/runs/first/records.jsonl")
    sent = found.answer("/runs/second/report.html")
    assert sent.content


def test_a_run_moved_away_for_a_link_is_not_followed(tmp_path, runs):
    found = Pages(runs)
    (runs / "first").rename(tmp_path / "away")
    (runs / "first").symlink_to(tmp_path / "away")
    with pytest.raises(pages.Refused, match="no such file"):
        found.answer("/runs/first/records.jsonl")


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:80", "", "127.0.0.1.evil.example", "localhost.evil"),
        *("127.0.0.1:80:80", "127.0.0.1@evil.example", "127.0.0.2", "[::1]", "0.0.0.0"),
        *("localhost:", "evil.example\r\nHost: 127.0.0.1"),
    ],
)
def test_other_hosts_names_are_refused(listening, host):
    for path in ("/", "/runs/first/records.jsonl"):
        answer = raw(listening, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.0 421 ")
        assert b"naive" not in answer


def test_a_request_that_names_no_host_is_refused(listening):
    assert raw(listening, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 421 ")
    assert b"naive" not in raw(listening, b"GET /\r\n\r\n")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.0.0.1"])
def test_this_host_is_answered(ask, host):
    assert ask("/", Host=host)[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"])
def test_other_methods_are_refused_with_those_that_are_not(ask, method):
    status, headers, _ = ask("/", method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path", ["/", "/history.html", "/runs/first/report.html", "/runs/first/run.json", "/nowhere"]
)
def test_head_says_what_get_would_and_sends_no_body(listening, ask, path):
    status, headers, body = ask(path)
    request = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    head, _, rest = raw(listening, request).partition(b"\r\n\r\n")
    assert rest == b""
    lines = head.decode().split("\r\n")
    assert lines[0].split()[1] == str(status)
    said = dict(line.split(": ", 1) for line in lines[1:])
    assert said["Content-Length"] == headers["Content-Length"] == str(len(body.encode()))
    assert said["Content-Type"] == headers["Content-Type"]


@pytest.mark.parametrize("path", ["/", "/runs/first/report.html", "/runs/first/run.json", "/no"])
def test_every_answer_carries_the_headers_that_keep_it_apart(ask, path):
    headers = ask(path)[1]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "Python" not in headers["Server"]


def test_two_hundred_at_once_are_all_answered(ask, capfd):
    paths = ["/", "/runs/first/report.html", "/runs/first/records.jsonl", "/history.html"]
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda n: ask(paths[n % 4])[0], range(200)))
    assert answers == [200] * 200
    assert capfd.readouterr().err == ""


def is_cut(connection):
    """Whether a connection ends with nothing sent; on a slow machine before all was asked."""
    connection.settimeout(PATIENCE_S)
    try:
        return connection.recv(10) == b""
    except ConnectionError:
        return True


def test_broken_connections_stop_nothing_and_say_nothing(listening, ask, capfd, patience):
    patience(silence_s=0.3)
    half = [socket.create_connection(listening) for _ in range(20)]
    for number, connection in enumerate(half):
        with suppress(ConnectionError):
            connection.sendall(b"GET /runs/first/report.html HTT"[: number + 5])
    for connection in half:
        assert is_cut(connection)
        connection.close()
    patience()
    dropped = [socket.create_connection(listening) for _ in range(20)]
    linger = b"\1\0\0\0\0\0\0\0"
    for connection in dropped:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.sendall(b"GET /runs/first/report.html HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.close()
    for rubbish in (b"\0" * 100, b"GET " + b"a" * 70_000, b"\x16\x03\x01\x02", b"GET / HTTP/9.9"):
        raw(listening, rubbish + b"\r\n\r\n")
    many = b"".join(b"X-%d: 1\r\n" % n for n in range(200))
    raw(listening, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + many + b"\r\n")
    assert ask("/")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_reader_who_takes_nothing_holds_nobody_up(server, ask, monkeypatch, capfd):
    begun, gave_up = threading.Event(), threading.Event()
    body, log_error = view._Handler._body, view._Handler.log_error

    def sends(handler, content):
        if handler.path.startswith("/runs/"):
            handler.connection.settimeout(0.2)
            begun.set()
        body(handler, content)

    def given_up(*told):
        log_error(*told)
        gave_up.set()

    monkeypatch.setattr(view._Handler, "_body", sends)
    monkeypatch.setattr(view._Handler, "log_error", given_up)
    # Less than a report fits between the two.
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(server.server_address)
        slow.sendall(b"GET /runs/first/report.html HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert begun.wait(PATIENCE_S)
        assert ask("/")[0] == 200
        assert gave_up.wait(PATIENCE_S)
    assert capfd.readouterr().err == ""


def _trickle(connection):
    for letter in b"GET /" + b"a" * 10_000:
        time.sleep(0.05)
        connection.sendall(bytes([letter]))


def test_who_trickles_is_given_up_in_the_end(listening, ask, patience, capfd):
    patience(deadline_s=0.5)
    with socket.create_connection(listening) as slow, pytest.raises(ConnectionError):
        _trickle(slow)
    patience()
    assert ask("/")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_fault_is_a_line_and_not_a_traceback(listening, ask, capfd, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("on purpose")

    with monkeypatch.context() as failing:
        failing.setattr(Pages, "answer", fail)
        raw(listening, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert ask("/")[0] == 200
    assert capfd.readouterr().err == "lstm-bench: ZeroDivisionError: on purpose\n"


def test_a_run_that_broke_meanwhile_is_told(ask, runs):
    (runs / "first" / run_folder.RECORDS).write_text("nonsense\n")
    status, _, body = ask("/runs/first/report.html")
    assert status == 500
    assert "not JSON" in body
    assert ask("/runs/second/report.html")[0] == 200


def test_a_new_run_is_found_while_serving(ask, runs, monkeypatch):
    monkeypatch.setattr(pages, "FRESH_S", 0.0)
    put(runs / "third", blocks("naive", [7000] * 3), start=start(9))
    assert ask("/runs/third/report.html")[0] == 200
    assert "third" in ask("/")[2]


def test_one_run_is_a_store_of_one_and_begins_with_its_report(runs):
    found = Pages(runs / "first")
    assert found.first == "runs/first/report.html"
    assert "Which backend" in found.answer(f"/{found.first}").content.decode()
    assert Pages(runs).first == ""


def test_folder_without_runs_and_a_port_that_is_taken(runs, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        Pages(tmp_path / "nowhere")
    with (
        view.server(Pages(runs), 0) as listening,
        pytest.raises(UserError, match="cannot listen on port"),
    ):
        view.server(Pages(runs), listening.server_address[1])


@pytest.mark.parametrize(
    ("connection", "typed"),
    [
        ("10.0.0.9 50000 10.0.0.1 22", "ssh -L 8001:127.0.0.1:8001 ann@10.0.0.1"),
        ("::1 50000 fe80::1 2222", "ssh -p 2222 -L 8001:127.0.0.1:8001 ann@fe80::1"),
        ("", ""),
    ],
)
def test_over_ssh_it_says_what_to_type(connection, typed):
    seen = {"SSH_CONNECTION": connection, "USER": "ann"}
    assert view.forwarding(8001, seen) == typed


def test_what_ssh_says_is_not_believed_where_it_is_no_address():
    said = view.forwarding(8001, {"SSH_CONNECTION": "a b $(reboot) d", "USER": "ann"})
    assert said == f"ssh -L 8001:127.0.0.1:8001 ann@{socket.gethostname()}"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_interrupted_and_ends_quietly(here, runs, sign):
    over_ssh = environment(here) | {"SSH_CONNECTION": "10.0.0.9 5 10.0.0.1 22", "USER": "ann"}
    with bench.start("view store --no-browser", here, env=over_ssh) as process:
        address = process.stdout.readline().strip()
        port = int(address.rpartition(":")[2].strip("/"))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        process.send_signal(sign)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert out == ""
    assert err.count("\n") == 1
    assert f"ssh -L {port}:127.0.0.1:{port} ann@10.0.0.1" in err


def test_what_the_cache_holds_is_never_needed(runs, tmp_path):
    first = Pages(runs).answer("/").content
    for file in (tmp_path / "cache").rglob("*.json"):
        for content in ("", "[]", '{"version": 1, "runs": {"first": {}}}', "[" * 100_000):
            file.write_text(content)
            assert Pages(runs).answer("/").content == first
        assert derived(file)["version"] == cards.VERSION
