"""What every test folder shares: saying, at the end, what a run of the tests did not exercise."""

import importlib.util
import shutil

import interpreted
import pytest
import slow_tier
import torch

from lstm_kernels import registry
from lstm_kernels.cells import CELLS
from lstm_kernels.zoneout import zoned

# Hooks, where pytest looks for them.
pytest_addoption = slow_tier.pytest_addoption
pytest_collection_modifyitems = slow_tier.pytest_collection_modifyitems
pytest_runtest_setup = slow_tier.pytest_runtest_setup
interpreted.begin()

if importlib.util.find_spec("hypothesis"):  # a GPU's image may have none
    from hypothesis import HealthCheck, settings

    # How long an example takes to draw and to run is the machine's affair.
    slow_ones_too = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("any machine", **slow_ones_too)
    settings.load_profile("any machine")

# Small layers, beside other tests that want the cores too. One number for all tests of a process:
# jax keeps the first it meets, and refuses another.
torch.set_num_threads(1)


def _no_cell_stays():
    """Cells that are made known meanwhile are not for the next test, which may count them."""
    known = dict(CELLS)
    yield
    if known != CELLS:
        CELLS.clear()
        CELLS.update(known)
        zoned.cache_clear()


@pytest.fixture(autouse=True)
def _threads_stay():
    """A test that changes the number of threads changes it for itself alone."""
    yield
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


_none_of_a_test_stays = pytest.fixture(_no_cell_stays, autouse=True)
_none_of_a_module_stays = pytest.fixture(_no_cell_stays, autouse=True, scope="module")


def pytest_collection_finish():
    """Every test module is imported now."""
    interpreted.end()


def pytest_terminal_summary(terminalreporter, config):
    """Name what needs a machine, or a target, of its own."""
    missing = []
    if not torch.cuda.is_available():
        missing.append("CUDA (no GPU here): cudnn, graphed, the CUDA clock and graph replay")
        kernels = ", ".join(b.name for b in registry.BUILT_IN if b.interpreter)
        missing.append(f"{kernels} on a GPU (no GPU here): interpreted instead, over samples")
    if "not browser" in config.getoption("markexpr"):
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        how = "make browser-test" if chromium else "install Chromium first"
        missing.append(f"the report in a browser ({how})")
    if "not slow" in config.getoption("markexpr"):
        missing.append("the slow tier: covering samples and long proofs (make test-all)")
    elif not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")):
        packages = "gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user"
        missing.append(f"numba_cpu on an emulated AArch64 (install {packages})")
    late = slow_tier.left_out(terminalreporter)
    if late:
        missing.append(f"{late} tests of the slow tier: its minutes were over (make test-all)")
    for line in missing:
        terminalreporter.write_line(f"not exercised: {line}")
