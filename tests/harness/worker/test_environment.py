import os
from types import SimpleNamespace

import pytest

from lstm_harness.worker.environment import describe, generation, state

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
processor\t: 1
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
"""
ARM = """processor\t: 0
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd40
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86, "AuthenticAMD 25 17"),
        (X86.replace("17", "2"), "AuthenticAMD 25 2"),
        (ARM, "0x41 0xd40"),
        ("processor : 0", None),
        ("", None),
    ],
)
def test_cpus_of_one_name_are_told_apart(text, expected):
    assert generation(text.splitlines()) == expected


def test_a_run_says_which_cpu_it_is():
    assert describe("cpu")["cpu"]["generation"]


def test_a_state_says_how_the_system_schedules_this(monkeypatch):
    monkeypatch.setattr(os, "sched_getscheduler", lambda pid: os.SCHED_FIFO)
    monkeypatch.setattr(os, "sched_getparam", lambda pid: SimpleNamespace(sched_priority=5))
    assert state("cpu")["scheduler"] == "SCHED_FIFO 5"
    monkeypatch.setattr(os, "sched_getscheduler", lambda pid: os.SCHED_OTHER)
    monkeypatch.setattr(os, "sched_getparam", lambda pid: SimpleNamespace(sched_priority=0))
    assert state("cpu")["scheduler"] == "SCHED_OTHER"
