import http.client
import threading

import pytest

from lstm_harness import store
from lstm_harness.errors import UserError
from lstm_harness.view import open_report, runs_in, server

PAGE = "<!doctype html><title>a report</title>"


@pytest.fixture
def runs(tmp_path):
    """A store of two runs, one of them with a name that HTML and URLs both must quote."""
    (tmp_path / "secret.html").write_text("secret")
    for name in ("2026-a", "deeper/<b>&? #"):
        run = tmp_path / "store" / name
        run.mkdir(parents=True)
        (run / store.MANIFEST).write_text("{}")
    (tmp_path / "store" / "2026-a" / store.REPORT).write_text(PAGE)
    (tmp_path / "store" / "deeper" / "<b>&? #" / store.REPORT).write_text(PAGE)
    return tmp_path / "store"


@pytest.fixture
def ask(runs):
    """Ask a server of the store; returns status and body."""
    with server(runs, 0) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()

        def go(path, method="GET", **headers):
            connection = http.client.HTTPConnection(*listening.server_address, timeout=10)
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

        yield go
        listening.shutdown()
        thread.join()


def test_it_listens_on_loopback_alone(runs):
    with server(runs, 0) as listening:
        assert listening.server_address[0] == "127.0.0.1"


def test_index_names_every_run_as_text(ask):
    status, page = ask("/")
    assert status == 200
    assert "2026-a" in page
    assert "&lt;b&gt;&amp;? #" in page
    assert "<b>" not in page


def test_every_link_of_the_index_leads_to_a_report(ask):
    _, page = ask("/")
    links = [part.split('"')[0] for part in page.split('href="')[1:]]
    assert len(links) == 2
    for link in links:
        assert ask(link) == (200, PAGE)


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.html",
        "/%2e%2e/secret.html",
        "/2026-a/../../secret.html",
        "//etc/passwd",
        "/2026-a/run.json",
        "/2026-a/report.html",
        "/deeper",
        "/nowhere",
        "/%00",
    ],
)
def test_nothing_but_reports_is_served(ask, path):
    status, page = ask(path)
    assert status == 404
    assert "secret" not in page


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example"])
def test_other_hosts_are_refused(ask, host):
    assert ask("/", Host=host)[0] == 404
    assert ask("/2026-a", Host=host)[0] == 404


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000"])
def test_this_host_is_answered(ask, host):
    assert ask("/2026-a", Host=host) == (200, PAGE)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_other_methods_are_refused(ask, method):
    assert ask("/", method)[0] == 501


def test_newest_run_comes_first(runs):
    assert [run.name for run in runs_in(runs)] == ["<b>&? #", "2026-a"]


def test_folder_without_runs_and_a_port_that_is_taken(runs, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        server(tmp_path / "nowhere", 0)
    with server(runs, 0) as listening, pytest.raises(UserError, match="cannot listen on port"):
        server(runs, listening.server_address[1])


def test_report_of_one_run_is_opened(runs, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    report = runs / "2026-a" / store.REPORT
    assert open_report(runs / "2026-a", browser=True) == report
    assert opened == [report.resolve().as_uri()]
    report.unlink()
    with pytest.raises(UserError, match="no report yet; make it with: lstm-bench report"):
        open_report(runs / "2026-a", browser=True)
    assert len(opened) == 1
