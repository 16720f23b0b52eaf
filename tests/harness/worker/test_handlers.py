"""What a worker does when it is asked to load a backend."""

import gc
from types import SimpleNamespace

import pytest

from lstm_harness.worker import handlers
from lstm_harness.worker.handlers import Worker


@pytest.fixture
def loaded(monkeypatch):
    """Load a backend that is such a module."""

    def load(**functions):
        monkeypatch.setattr(handlers.registry, "load", lambda name: SimpleNamespace(**functions))
        return Worker("cpu").load("any")

    yield load
    gc.unfreeze()  # a worker collects no garbage that is older than its cells


def test_a_backend_imports_all_that_its_first_call_would_when_it_is_loaded(loaded):
    imported = []
    executor = loaded(import_all=lambda: imported.append("compiler"))
    assert imported == ["compiler"]
    assert executor.device == "cpu"


def test_a_backend_need_not_say_what_its_first_call_imports(loaded):
    assert loaded().device == "cpu"
