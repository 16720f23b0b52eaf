"""Whom `auto` prefers: how near is near, whose results count, who is passed over, what is told."""

from pathlib import Path
from typing import Any

import pytest
import torch
from measured_rows import here, problem, put, row, run_of

from lstm_kernels import Backend, measured, preference, registry
from lstm_kernels.preference import NEAR, Preference, distance, nearest


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Where the user's results lie: a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    preference.forget()
    return measured.user_folder()


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "package"
    monkeypatch.setattr(measured, "SHIPPED", folder)
    return folder


def preferred(use: str = "training", **fields: Any) -> Preference:
    threads = torch.get_num_threads()
    return preference.preferred(problem(**fields), "cpu", use == "training", threads)


def told(found: Preference) -> str:
    return found.why(found.order[0], {})


@pytest.mark.parametrize(
    ("fields", "away"),
    [
        ({}, 0),
        ({"seq_len": 16}, 1),
        ({"batch": 1}, 2),
        ({"seq_len": 4, "batch": 8}, 2),
        ({"input_size": 32, "hidden_size": 32}, 2),
        ({"batch": 6}, 0.585),
        ({"hidden_size": 16 * 2**2000}, 2000),
        ({"cell": "gru"}, None),
        ({"num_layers": 2}, None),
        ({"bidirectional": True}, None),
        ({"bias": False}, None),
        ({"proj_size": 8}, None),
        ({"heads": 2}, None),
        ({"dtype": "float64"}, None),
        ({"precision": "tf32"}, None),
        ({"lengths": "uniform:1:8"}, None),
    ],
    ids=str,
)
def test_what_is_of_one_kind_lies_doublings_apart(fields: Any, away: float | None) -> None:
    there = distance(problem(), problem(**fields))
    assert there == distance(problem(**fields), problem())
    assert there == (away if away is None else pytest.approx(away, abs=1e-3))


def test_lengths_are_full_or_not_and_no_more_is_known_of_them() -> None:
    one, other = "uniform:3:8", "uniform:1:8"
    assert distance(problem(lengths=one), problem(lengths=other)) == 0


def test_the_nearest_row_counts_and_none_beyond_the_cutoff() -> None:
    rows = (row(batch=1), row(batch=2), row(batch=64), row(("aten",), "inference"))
    assert nearest(problem(), "training", rows) == (rows[1], 1.0)
    assert nearest(problem(batch=1), "training", rows) == (rows[0], 0.0)
    assert nearest(problem(batch=8), "training", rows) == (rows[1], NEAR)
    assert nearest(problem(batch=9), "training", rows) is None
    assert nearest(problem(batch=1), "inference", rows) == (rows[3], NEAR)
    assert nearest(problem(cell="gru"), "training", rows) is None
    assert nearest(problem(), "training", ()) is None
    # Of equally near ones the first, which in a file is the smaller.
    assert nearest(problem(batch=8), "training", (row(batch=4), row(batch=16))) == (
        row(batch=4),
        1.0,
    )


def test_with_nothing_measured_it_is_pytorchs_own() -> None:
    found = preferred()
    assert found.order == ("aten",)
    assert told(found) == (
        "aten: PyTorch's own, as nothing near lstm T8 B4 H16 float32 in training was measured on "
        + here().label()
    )


@pytest.mark.parametrize("fields", [{"cell": "slstm"}, {"heads": 2}], ids=str)
def test_where_pytorch_has_no_such_layer_it_is_a_loop(fields: Any, own: Path) -> None:
    found = preferred(**fields)
    assert found.order == ("hoisted",)
    assert told(found).startswith("hoisted: a loop of PyTorch's operations, as nothing near ")
    put(own, row(("naive",), **fields))
    assert preferred(**fields).order == ("naive", "hoisted")


def test_the_fastest_on_the_nearest_problem_is_taken_and_told(own: Path) -> None:
    put(own, row(("hoisted", "naive", "aten"), slower=("per_gate",), run=run_of(id="mine")))
    same = preferred()
    assert same.order == ("hoisted", "naive", "aten")
    assert told(same) == (
        "hoisted: the fastest of 4 measured on lstm T8 B4 H16 float32 in training, this very "
        f"problem, in run mine (your own; {here().label()}; torch {torch.__version__})"
    )
    near = told(preferred(seq_len=11))
    assert ", 0.46 doublings from lstm T11 B4 H16 float32, in run mine (your own; " in near
    assert same.why("naive", {"hoisted": "it is tired"}).startswith("naive: the next best of 4 ")
    assert same.why("naive", {"hoisted": "it is tired"}).endswith(
        "; passed over: hoisted (it is tired)"
    )


def test_passes_dtypes_and_lengths_are_told_apart(own: Path) -> None:
    put(
        own,
        row(("hoisted", "aten")),
        row(("naive", "aten"), "inference"),
        row(("per_gate", "aten"), dtype="float64"),
        row(("naive", "aten"), lengths="uniform:3:8"),
    )
    assert preferred().order[0] == "hoisted"
    assert preferred("inference").order[0] == "naive"
    assert preferred(dtype="float64").order[0] == "per_gate"
    assert preferred(lengths="uniform:1:8").order[0] == "naive"
    assert preferred("inference", dtype="float64").order == ("aten",)


def test_of_a_tie_pytorchs_own_is_taken_and_said_to_be_one(own: Path) -> None:
    tie = measured.Row(
        problem(), "training", run_of(), {"naive": 1.0, "aten": 1.5}, ("naive", "aten"), ("aten",)
    )
    put(own, tie)
    assert preferred().order == ("aten",)
    assert told(preferred()).startswith(
        "aten: tied with the fastest of 2 measured, naive, on lstm T8 "
    )


def test_a_lead_within_noise_is_said_to_be_one(own: Path) -> None:
    put(own, row(("hoisted", "aten"), tied=("hoisted", "naive", "aten"), slower=("naive",)))
    assert preferred().order == ("hoisted", "aten")
    assert told(preferred()).startswith(
        "hoisted: the fastest of 3 measured, within noise of naive, aten, on lstm T8 "
    )


def test_own_results_come_before_shipped_ones_and_those_before_none(
    own: Path, shipped: Path
) -> None:
    put(shipped, row(("naive", "aten"), run=run_of(id="published", kernels="0" * 64)))
    assert preferred().order[0] == "naive"
    assert "in run published (shipped; " in told(preferred())
    put(own, row(("hoisted", "aten"), batch=8))
    assert preferred().order[0] == "hoisted"  # though another's problem is nearer
    assert preferred(batch=1).order[0] == "naive"
    assert preferred(batch=64).order == ("aten",)


def test_stale_results_are_not_used_and_that_is_told(own: Path, shipped: Path) -> None:
    put(own, row(("hoisted", "aten"), run=run_of(kernels="0" * 64)))
    refused = "; your own results: run a-run was measured with other sources of the kernels"
    assert preferred().order == ("aten",)
    assert refused in told(preferred())
    put(shipped, row(("naive", "aten")))
    assert preferred().order[0] == "naive"
    assert refused in told(preferred())


def test_other_threads_are_another_device(own: Path) -> None:
    put(own, row())
    threads = torch.get_num_threads()
    assert preference.preferred(problem(), "cpu", True, threads).order[0] == "hoisted"
    assert preference.preferred(problem(), "cpu", True, threads + 1).order == ("aten",)


def test_other_kinds_of_device_are_left_to_pytorch() -> None:
    found = preference.preferred(problem(), "xpu:0", True, 1)
    assert told(found) == "aten: PyTorch's own, as nothing is measured on xpu"


UNUSABLE = {
    "gone": (None, "is not registered here"),
    "graphed": (None, "is not for cpu"),
    "compiled": (None, "compiles for seconds at each new shape"),
    "mine": (Backend("mine", "x", "", requires=("no_such.package",)), "needs no_such.package, "),
    "forward_only": (Backend("forward_only", "x", "", passes=("inference",)), "has no gradients"),
    "broken": (Backend("broken", "no_such_module", ""), "cannot be imported (ModuleNotFoundError"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_who_cannot_be_taken_here_is_passed_over_for_the_next(
    own: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, reason = UNUSABLE[name]
    monkeypatch.setattr(registry, "_plugins", {name: plugin} if plugin else {})
    put(own, row((name, "hoisted", "aten")))
    found = preferred()
    assert found.order == ("hoisted", "aten")
    assert told(found).startswith("hoisted: the next best of 3 measured on ")
    assert f"; passed over: {name} ({reason}" in told(found)


def test_a_row_whose_own_backends_are_all_gone_leaves_pytorchs_own(own: Path) -> None:
    put(own, row(("gone", "gone_too")))
    assert preferred().order == ("aten",)
    assert told(preferred()).startswith("aten: PyTorch's own, because nothing faster of 2 ")


def test_files_are_read_once(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(own, row())
    opened = []
    read = measured.read
    monkeypatch.setattr(measured, "read", lambda path: opened.append(path) or read(path))
    for batch in (4, 4, 2, 64):
        preferred(batch=batch)
        preferred("inference", batch=batch)
    assert len(opened) == 2  # the user's and the package's
    again = preferred()
    assert again is preferred()
