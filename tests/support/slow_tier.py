"""How much of the slow tier is run: hooks of pytest's, which tests/conftest.py has."""

import random
import time

import pytest

BEGAN = time.monotonic()
TIME_IS_UP = "the minutes of the slow tier are over"


def pytest_addoption(parser):
    minutes = "so many minutes after the start, begin no test of the slow tier any more"
    parser.addoption("--slow-minutes", type=float, default=float("inf"), help=minutes)
    draw = "with --slow-minutes, any text: draws which modules' slow tests come first"
    parser.addoption("--draw", default="", help=draw)


@pytest.hookimpl(trylast=True)  # after all that marks tests as slow
def pytest_collection_modifyitems(config, items):
    """Where time may run out, what is slow comes last, each draw in another order."""
    if config.getoption("slow_minutes") == float("inf"):
        return
    modules = sorted({item.path for item in items})
    random.Random(config.getoption("draw")).shuffle(modules)
    turns = {path: turn for turn, path in enumerate(modules)}
    items.sort(key=lambda item: turns[item.path] if _is_slow(item) else -1)


@pytest.hookimpl(tryfirst=True)  # before a fixture begins what there is no time for
def pytest_runtest_setup(item):
    minutes = (time.monotonic() - BEGAN) / 60
    if _is_slow(item) and minutes >= item.config.getoption("slow_minutes"):
        pytest.skip(TIME_IS_UP)


def left_out(terminalreporter):
    """How many tests there was no time for."""
    skipped = terminalreporter.stats.get("skipped", ())
    return sum(TIME_IS_UP in str(report.longrepr) for report in skipped)


def _is_slow(item):
    return item.get_closest_marker("slow") is not None
