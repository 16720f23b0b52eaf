"""A comparison on a terminal of 80 columns: short, and plain about what it could not see."""

import math
import re

import pytest
from rich.console import Console
from saved_runs import save
from synthetic_runs import blocks, case, grid

from lstm_harness.console import output

NS = 1_000_000
TERMINAL = {"force_terminal": True, "color_system": None}
AXES = {"seq_len": (32, 64, 128), "batch": (1, 4, 16), "hidden_size": (128,)}


@pytest.fixture
def at_80(command, here, monkeypatch):
    """Run a command as in a terminal of 80 columns; its code and lines."""
    for name in ("out", "err"):
        monkeypatch.setattr(output, name, Console(width=80, stderr=name == "err", **TERMINAL))

    def go(*arguments):
        code, out, err = command(*arguments)
        return code, out.splitlines(), err.splitlines()

    return go


def rows(lines):
    """How many rows of a terminal lines take."""
    return sum(max(1, math.ceil(len(line) / 80)) for line in lines)


def noisy(here, spread=0.15, block_count=5, **more):
    """Two runs of the same kernels, 90 cases of 5 backends, on a machine that noisy."""
    for seed, name in enumerate(("old", "new")):
        records = grid(spread=spread, block_count=block_count, seed=seed, **AXES)
        save(here / name, records, **more)


@pytest.mark.parametrize("spread", [0.15, 0.6])
def test_identical_runs_on_a_noisy_machine_say_shortly_what_can_be_seen(at_80, here, spread):
    noisy(here, spread)
    code, out, err = at_80("check", "new", "--baseline", "old")
    assert code == 3
    assert rows(out) + rows(err) < 15
    assert "new against old: 90 inconclusive" in out
    assert out[0].strip().endswith("this gate sees, with 95% power")
    of_backends = [line for line in out if "18 inconclusive" in line]
    assert len(of_backends) == 5
    assert all(" or more; not 5% in 200 blocks" in line for line in of_backends)
    assert out[-2] == "to see 5% here: use lstm-bench ab or find a quieter machine"
    assert out[-1] == "Nothing could be told"


def test_where_more_blocks_help_it_says_how_many(at_80, here):
    noisy(here, 0.04, 3)
    code, out, _ = at_80("check", "new", "--baseline", "old")
    assert code == 3
    told = re.findall(r"[\d,]+% or more; (\d+) blocks would see 5%", "\n".join(out))
    assert len(told) == 5
    most = max(map(int, told))
    ways = f"take {most} blocks, use lstm-bench ab or find a quieter machine"
    assert out[-2] == f"to see 5% here: {ways}"


def test_pairs_are_told_together_first(at_80, here):
    noisy(here, 0.1, pair="x")
    _, out, _ = at_80("compare", "old", "new")
    titles = [line for line in out if "all cases together" in line]
    assert len(titles) == 1
    assert sum("INCONCLUSIVE" in line or "SAME" in line for line in out) == 5
    assert sum("18 inconclusive" in line for line in out) == 5
    assert all(len(line) <= 80 for line in out[: out.index(titles[0]) + 12])


def test_backends_come_first_then_the_cases_that_matter_worst_first(at_80, here):
    cases = [case(seq_len=steps) for steps in (1, 2, 3, 4)]
    old = [r for name in ("same", "slow") for of in cases for r in blocks(name, [NS] * 5, of=of)]
    slower = {1: 1.2, 2: 1.5, 3: 1.0, 4: 0.5}
    new = [
        r
        for name in ("same", "slow")
        for of in cases
        for r in blocks(
            name,
            [int(NS * (slower[of.problem.seq_len] if name == "slow" else 1))] * 5,
            of=of,
        )
    ]
    save(here / "old", old)
    save(here / "new", new)
    code, out, _ = at_80("check", "new", "--baseline", "old")
    assert code == 1
    assert [line.split()[0] for line in out[:3]] == ["backend", "slow", "same"]
    assert "this gate sees" not in out[0]
    kinds = [line.split()[0] for line in out if line.startswith(("REGRESSION", "IMPROVEMENT"))]
    assert kinds == ["REGRESSION", "REGRESSION", "IMPROVEMENT"]
    place = {t: next(n for n, line in enumerate(out) if f"lstm T{t} " in line) for t in (1, 2, 4)}
    assert place[2] < place[1] < place[4]
    assert not any("lstm T3 " in line for line in out)
    assert "1 ms to 1.5 ms" in "\n".join(out)


def test_reason_is_told_where_no_number_of_blocks_is_known(at_80, here):
    for name in ("old", "new"):
        save(here / name, blocks("naive", [NS] * 2))
    code, out, _ = at_80("check", "new", "--baseline", "old")
    assert code == 3
    assert "too few blocks: 2 of at least 3" in " ".join(" ".join(out).split())
    assert out[-2].startswith("to see 5% here: take more blocks, ")


def test_more_cases_than_a_screen_holds_are_counted(at_80, here):
    cases = [case(seq_len=steps) for steps in range(1, 61)]
    for name, factor in (("old", 1.0), ("new", 1.5)):
        records = [r for of in cases for r in blocks("naive", [int(NS * factor)] * 5, of=of)]
        save(here / name, records)
    _, out, _ = at_80("compare", "old", "new")
    assert "and 30 more; --json lists all" in out
    assert sum(line.startswith("REGRESSION") for line in out) == 30
