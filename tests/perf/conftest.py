"""What `lstm-bench import` needs to know of the machine, beside what pytest-benchmark tells."""

import pytest
import torch

from lstm_harness.interop.benchmark_json import machine_facts
from lstm_harness.worker import environment


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info):
    torch.set_num_threads(environment.physical_cores())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    facts = environment.describe(device)
    machine_info["lstm_bench"] = machine_facts(facts, environment.sources_digest([]))
