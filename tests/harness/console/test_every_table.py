"""Every table of the console, on terminals of 80, 100 and 200 columns, and piped."""

import re
from io import StringIO
from types import SimpleNamespace

import made_up_gradients
import pytest
from known_limits import cpu_limits
from made_up_training import WORKLOAD
from made_up_training import race as trained
from rich.cells import cell_len
from rich.console import Console
from saved_runs import save
from synthetic_runs import blocks, case, grid, record, run

from lstm_harness.ab.selftest import noise_of
from lstm_harness.analysis.floors.floor import floor_rows
from lstm_harness.analysis.ratios import Ratio
from lstm_harness.analysis.recommendation import Advice, Part, Standing
from lstm_harness.console import (
    baselines,
    comparison,
    gradients,
    history,
    kernels,
    limits,
    output,
    phases,
    planning,
    recommendation,
    run_table,
    selftest,
    tables,
    training,
    tuning,
    verification,
    workloads,
)
from lstm_harness.history import index
from lstm_harness.history.series import gather
from lstm_harness.judge.comparison import compare_runs
from lstm_harness.judge.verdict import Rules
from lstm_harness.model.plan import Plan, PlannedCell, Skip
from lstm_harness.model.spec import Spec, Use, named_suite, suite_names
from lstm_harness.race.visit import Outcome
from lstm_harness.store import run_folder
from lstm_kernels.registry import BUILT_IN

SIX = ("per_gate", "naive", "hoisted", "aten", "numba_cpu", "peer_onnxruntime")
BOXES = set("│┃─━┏┓┗┛┌┐└┘╭╮╰╯|")


def grid_run():
    """48 cases of 6 backends, one of which failed in some."""
    records = list(grid(SIX, cell=("lstm", "gru"), seq_len=(32, 128)))
    late = case(seq_len=2048, bidirectional=True, num_layers=2)
    return run(
        [
            *records,
            *blocks("aten", [70_200] * 3, of=late),
            record("naive", of=late, status="crashed"),
        ]
    )


def planned():
    plan = Plan.from_dict(grid_run().manifest["plan"])
    no = Skip("unsupported", "graphs need a CUDA device; this machine has none")
    skips = {(name, one): no for name in SIX[:3] for one in plan.cases[:4]}
    return Plan(SIX, plan.cases, 3, "cpu", skips, {"cudnn": "needs a CUDA device"}, 60, 2**24)


def surveyed():
    missing = {name.name: "runs on cuda only; this machine has none" for name in BUILT_IN[::2]}
    return SimpleNamespace(
        device="cpu",
        backends={backend.name: backend for backend in BUILT_IN},
        missing=missing,
        unavailable={"/home/somebody/a/long/path/to/mine.py": "No module named 'mine'"},
    )


def compared(folder):
    base = save(folder / "base", grid(SIX[:3], block_count=5))
    new = save(folder / "new", grid(SIX[:3], block_count=5, spread=0.1, seed=1))
    return compare_runs(run_folder.load(base), run_folder.load(new))


def history_of(folder):
    for day in range(8):
        slower = 1_000 + 500 * (day > 3)
        save(
            folder / f"run{day}",
            blocks("peer_onnxruntime", [slower] * 3),
            start=f"2026-01-0{day + 1}T12:00:00+00:00",
            id=f"2026010{day + 1}T120000Z-host-quick",
        )
    return gather(index.refresh(folder, lambda done, total, label: None))


def tuned():
    choices = {"BLOCK_B": 16, "BLOCK_H": 64, "num_warps": 4, "num_stages": 2}
    row = {
        "key": "lstm float32 H256 B16 forward train",
        "own": choices,
        "own_us": (12.5, 12.1, 12.9),
        "tuned_us": (10.1, 9.9, 10.4),
        "ratio": (0.808, 0.79, 0.83),
        "status": "tuned",
        "reason": "",
        "choice": choices | {"BLOCK_H": 128, "num_warps": 8},
        "tried": 24,
        "wrong": 1,
        "failed": 2,
        "failures": [],
    }
    missed = row | {"status": "not_reached", "own_us": None, "tuned_us": None, "ratio": None}
    return {"keys": [row, missed], "skipped": [], "tuning_s": 61.5, "compile_s": 20.1, "file": "x"}


def inspected():
    row = {
        "problem": case(hidden_size=1024).problem.to_dict(),
        "arch": "sm_90",
        "kernel": "_forward",
        "regime": "persistent",
        "status": "ok",
        "reason": "",
        "constants": {"B": 1},
        "registers": 128,
        "stack_bytes": 0,
        "local_bytes": 0,
        "spill_bytes": 0,
        "shared_bytes": 65_536,
        "matrix_instructions": {"HMMA.16816.F32": 96, "WGMMA": 12},
        "weight_loads_in_loop": 0,
        "weight_loads": 64,
        "blocks_per_sm": 2,
        "occupancy": 0.25,
        "occupancy_limit": "registers",
    }
    return [row, row | {"kernel": "_backward", "constants": {"B": 16}}]


def phased():
    one = case("train", hidden_size=1024, num_layers=2, bidirectional=True)
    told = {"x W_ih^T": 2_120_000, "steps: products": 912_345_678, "backward: dW, db": 5_610}
    whole_ns = 1e9
    timed = [{"phase": name, "ns": ns, "share": ns / whole_ns} for name, ns in told.items()]
    row = {
        **{"label": one.label(), "status": "ok", "reason": "", "executions": 1_234},
        **{"whole_ns": whole_ns, "plain_ns": 0.98e9, "phases": timed},
        "other_ns": whole_ns - sum(told.values()),
    }
    refused = row | {"status": "unsupported", "reason": "it has no " + "layers " * 12 + "here"}
    return {"backend": "peer_onnxruntime", "threads": 2, "cases": [row, refused]}


def advised():
    ratio, tie = Ratio(2.0, 1.9, 2.1), Ratio(1.0, 0.9, 1.1)
    use = Use("encoder.layers.0.recurrent", case(seq_len=128), 12_000)
    part = Part(use, "aten", 2e6, 0.5, 1e6, ratio, "peer_onnxruntime", Ratio(1.5, 1.4, 1.6))
    standings = (Standing("numba_cpu", 1e9, ratio), Standing("aten", 2e9, tie))
    return Advice("numba_cpu", "aten", 2e9, 1e9, standings, (part,) * 3, {}, ())


def verified():
    cells = [
        PlannedCell(0, 0, name, one, None) for name in SIX for one in (case(), case(seq_len=8))
    ]
    errors = {"y": 1e-7, "d_w_ih": 2.5e-7}
    return [Outcome(cell, "ok", errors=errors, tolerance=1e-5) for cell in cells]


def noises(folder):
    return noise_of(compared(folder).verdicts, Rules(paired=True))


def saved_baselines():
    return [
        {
            "name": "main",
            "cells": 144,
            "records": 720,
            "run": "20260101T120000-host-quick",
            "start": "2026-01-01T12:00:00+00:00",
            "commit": "0123abcd",
        }
    ]


# Each prints its table; a folder is given.
TABLES = {
    "run": lambda folder: run_table.write(grid_run(), None),
    "run --against": lambda folder: run_table.write(grid_run(), None, "naive"),
    "plan": lambda folder: planning.plan(planned()),
    "backends": lambda folder: planning.backends(surveyed()),
    "suites": lambda folder: planning.suites([named_suite(name) for name in suite_names()]),
    "history": lambda folder: history.table(history_of(folder)),
    "compare": lambda folder: comparison.write(compared(folder)),
    "limits": lambda folder: limits.ceilings(cpu_limits()),
    "limits, floors": lambda folder: limits.floors(
        floor_rows(cpu_limits(), Spec(({"hidden": (64, 512), "cell": ("lstm", "gru")},)))
    ),
    "tune": lambda folder: tuning.tuning(tuned()),
    "inspect": lambda folder: kernels.kernels(inspected()),
    "phases": lambda folder: phases.phases(phased()),
    "recommend": lambda folder: recommendation.write(grid_run(), None, advised()),
    "verify": lambda folder: verification.table(verified()),
    "train": lambda folder: training.write(WORKLOAD, trained({"naive": 30, "aten": 6})),
    "train --list": lambda folder: workloads.list_workloads(),
    "gradients": lambda folder: gradients.write(
        made_up_gradients.gradients(
            ("lstm", made_up_gradients.halving(100)), ("gru", made_up_gradients.halving(100, 20))
        )
    ),
    "selftest": lambda folder: selftest.noise(noises(folder), []),
    "baseline list": lambda folder: baselines.table(saved_baselines()),
}


@pytest.fixture
def printed(monkeypatch, tmp_path):
    """What a table's command prints on a terminal so wide, or piped; and the tables themselves."""

    def go(name, width=None):
        shown, file, plain = [], StringIO(), tables.show
        to = Console(
            file=file,
            width=width or 80,
            force_terminal=width is not None,
            color_system=None,
            force_jupyter=False,
        )
        monkeypatch.setattr(output, "out", to)
        monkeypatch.setattr(
            tables, "show", lambda table, console: (shown.append(table), plain(table, console))
        )
        TABLES[name](tmp_path)
        monkeypatch.undo()
        return file.getvalue(), shown

    return go


def headers_of(table):
    return [str(column.header) for column in table.columns]


def words_of(table):
    texts = [str(cell) for column in table.columns for cell in column.cells]
    return {word for text in texts for word in text.split()}


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("name", TABLES)
def test_on_a_terminal(printed, name, width):
    text, shown = printed(name, width)
    assert shown
    assert [line for line in text.splitlines() if cell_len(line) > width] == []
    there = set(re.split(r"\s+", text))
    for table in shown:
        assert {word for head in headers_of(table) for word in head.split()} <= there
        assert {w for w in words_of(table) if cell_len(w) <= tables.LONGEST_WORD} <= there


@pytest.mark.parametrize("name", TABLES)
def test_piped(printed, name):
    text, shown = printed(name)
    assert "\x1b" not in text
    assert not BOXES & set(text)
    lines = text.splitlines()
    for table in shown:
        heads = [head for head in headers_of(table) if head]
        (place,) = [n for n, line in enumerate(lines) if re.split(r"  +", line.strip()) == heads]
        for line, row in zip(lines[place + 1 :], range(table.row_count), strict=False):
            for column in table.columns:
                assert str(list(column.cells)[row]) in line
