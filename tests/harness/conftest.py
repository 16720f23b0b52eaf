"""What the harness tests share: the command line in this process, and small problems."""

import itertools
import json
import shlex
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from subprocess import CompletedProcess

import forked_workers
import pytest

from lstm_harness.__main__ import run
from lstm_harness.history import run_digest
from lstm_harness.model import case
from lstm_harness.model.case import CALL_FIELDS, Call, Case
from lstm_kernels import CELLS, Problem


@pytest.fixture(autouse=True)
def forget_cells():
    """What a test's plugins and runs bring is gone after it, or before: as in a fresh process."""
    known = dict(CELLS)

    def forget():
        CELLS.clear()
        CELLS.update(known)
        for kept in (case._problem, run_digest._case_text):
            kept.cache_clear()

    yield forget
    if known.keys() != CELLS.keys():
        forget()


@pytest.fixture(scope="session")
def nursery():
    """What workers are forked from, where a fresh start is not the subject."""
    with forked_workers.nursery() as made:
        yield made


def _settle_in(folder, patch):
    """A current folder, a scratch folder, a device lock and a cache of the test's own."""
    (folder / "tmp").mkdir(exist_ok=True)
    patch.chdir(folder)
    patch.setenv("TMPDIR", str(folder / "tmp"))
    patch.setenv("LSTM_BENCH_LOCKS", str(folder / "tmp"))
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    patch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The test's folder, as the current one."""
    _settle_in(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="session")
def bench_in(nursery):
    """Run a command line in a folder as `bench` does, but in this process."""

    def go(arguments: str, folder, **variables: str) -> CompletedProcess[str]:
        out, err = StringIO(), StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            _settle_in(folder, patch)
            nursery.use(patch)
            for name, value in variables.items():
                patch.setenv(name, value)
            code = run(shlex.split(arguments))
        return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    return go


@pytest.fixture
def forked(nursery, monkeypatch):
    """Workers that this process starts are forked."""
    nursery.use(monkeypatch)


@pytest.fixture
def command(here, capsys, forked):
    """Run a command line here; returns exit code, stdout and stderr."""

    def go(*arguments: str):
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return go


@pytest.fixture
def refused(command):
    """Run a command line that must fail with one line; returns that line."""

    def go(*arguments: str, code: int = 2) -> str:
        found, out, err = command(*arguments)
        assert found == code, err
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("lstm-bench: ")
        assert "Traceback" not in err
        return err

    return go


@pytest.fixture
def document(command):
    """Run a command line that prints one JSON document; returns it."""

    def go(*arguments: str):
        code, out, err = command(*arguments)
        assert code == 0, err
        return json.loads(out)

    return go


@pytest.fixture
def small_case():
    """A case of a few numbers."""

    def make(pass_name: str = "forward", launch: str = "eager", **problem) -> Case:
        sizes = {"cell": "lstm", "seq_len": 3, "batch": 2, "input_size": 4, "hidden_size": 4}
        call = Call(**{name: problem.pop(name) for name in CALL_FIELDS if name in problem})
        return Case(Problem(**(sizes | problem)), pass_name, launch, call=call)

    return make


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server for every test of this process, with one bucket."""
    import boto3
    import s3_server

    server = s3_server.Server()
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.ENVIRONMENT.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=server.url).create_bucket(Bucket=s3_server.BUCKET)
        yield server
    server.stop()


_STORES = itertools.count()


@pytest.fixture
def s3(s3_server, here, monkeypatch):
    """The server without faults, found as a user's is; and `s3.store`, an empty store's URL."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setattr("lstm_harness.store.url_folder.PAUSES_S", (0.0, 0.0))
    s3_server.faults.clear()
    s3_server.requests.clear()
    s3_server.store = f"s3://lab/store-{next(_STORES)}"
    return s3_server
