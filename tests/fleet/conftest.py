"""The tests' folder on a machine whose engines may be installed or not."""

import pytest
from simulated_hosts import may_simulate_hosts


@pytest.fixture(autouse=True)
def _needs_hosts():
    if not may_simulate_hosts():
        pytest.skip("hosts with names of their own need root: sudo make fleet-test")
