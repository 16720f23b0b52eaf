"""What `lstm-bench import` needs to know of the machine, beside what pytest-benchmark tells."""

from pathlib import Path

import pytest
import torch

import lstm_kernels
from lstm_harness.interop.benchmark_json import machine_facts
from lstm_harness.model.sources import sources_digest
from lstm_harness.worker import environment


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info):
    torch.set_num_threads(environment.physical_cores())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    facts = environment.describe(device)
    kernels = Path(lstm_kernels.__path__[0]).parent
    machine_info["lstm_bench"] = machine_facts(facts, sources_digest(kernels, []))
