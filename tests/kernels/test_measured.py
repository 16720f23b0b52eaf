"""Files of results: what is written is read again, what does not hold here is refused and why."""

import json
import os
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from measured_rows import here, problem, put, row, run_of

from lstm_kernels import measured, preference
from lstm_kernels.measured import DeviceClass, Measured

ZEN = DeviceClass("cpu", "AMD EPYC", "AVX512", 2)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's results lie: a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    preference.forget()
    folder = measured.user_folder()
    assert folder == tmp_path / "lstm-bench" / "measured"
    return folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "package"
    monkeypatch.setattr(measured, "SHIPPED", folder)
    return folder


def held() -> tuple[measured.Source, measured.Source]:
    return measured.sources(here())


def test_what_is_written_is_read_again_a_row_a_line(own: Path) -> None:
    rows = (row(), row(("aten",), "inference", tied=("numba_cpu", "aten"), slower=("numba_cpu",)))
    path = put(own, *rows)
    assert measured.read(path) == Measured(here(), rows)
    lines = [line for line in path.read_text().splitlines() if '"use"' in line]
    assert [json.loads(line.rstrip(","))["use"] for line in lines] == ["training", "inference"]
    mine, shipped = held()
    assert (mine.rows, mine.refused) == (rows, "")
    assert (shipped.rows, shipped.refused) == ((), "")


def test_heads_are_kept_and_one_is_not_told(own: Path) -> None:
    rows = tuple(row(hidden_size=16, heads=heads) for heads in (1, 4))
    path = put(own, *rows[::-1])
    assert measured.merged([measured.read(path)]).rows == rows
    lines = [line for line in path.read_text().splitlines() if '"use"' in line]
    assert ['"heads"' in line for line in lines] == [True, False]


def test_a_file_name_tells_the_class_and_no_two_share_one() -> None:
    assert ZEN.file_name() == "cpu-amd-epyc-avx512-2-threads.json"
    gpu = DeviceClass("cuda", "NVIDIA H100 80GB HBM3")
    assert gpu.file_name() == "cuda-nvidia-h100-80gb-hbm3.json"
    others = [replace(ZEN, threads=1), replace(ZEN, instructions="AVX2"), replace(ZEN, name="X")]
    assert len({each.file_name() for each in (ZEN, gpu, *others)}) == 5


def test_this_cpu_is_of_a_class_by_name_instructions_and_threads() -> None:
    two = measured.device_class("cpu", 2)
    assert two.instructions == torch.backends.cpu.get_cpu_capability()
    assert two.name
    assert two.label().endswith("2 threads")
    assert measured.device_class("cpu", 1) == replace(two, threads=1)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"torch": "2.1.9+cpu"}, r"run a-run was measured with torch 2\.1\.9\+cpu; this is "),
        ({"kernels": "0" * 64}, "run a-run was measured with other sources of the kernels"),
    ],
)
def test_own_results_of_another_version_are_refused(
    own: Path, changed: dict[str, str], reason: str
) -> None:
    current = row(run=run_of(id="now"))
    put(own, row(("naive", "aten"), run=run_of(**changed), seq_len=9), current)
    mine, _ = held()
    assert mine.rows == (current,)
    assert re.match(reason, mine.refused)


def test_another_patch_of_torch_is_the_same_version(own: Path) -> None:
    put(own, row(run=run_of(torch=f"{measured.minor_of(torch.__version__)}.77+cu999")))
    assert held()[0].rows


def test_shipped_results_are_used_whatever_the_kernels_but_not_the_torch(shipped: Path) -> None:
    old_kernels = row(run=run_of(kernels="0" * 64))
    put(shipped, old_kernels, row(seq_len=9, run=run_of(torch="2.1.0")))
    mine, came = held()
    assert came.rows == (old_kernels,)
    assert "torch 2.1.0" in came.refused
    assert mine == measured.Source("your own")


def test_results_of_other_devices_are_not_looked_at(own: Path) -> None:
    other = replace(here(), instructions="ANOTHER")
    put(own, row(), device=other, name=other.file_name())
    assert held()[0] == measured.Source("your own")
    # Nor believed where they were copied to this device's place.
    put(own, row(), device=other)
    assert held()[0].rows == ()
    assert "ANOTHER" in held()[0].refused


def spoilt(change: str) -> bytes:
    """A sound file with one thing changed."""
    document = json.loads(measured.text_of(Measured(here(), (row(),))))
    first = document["rows"][0]
    changes = {
        "schema": lambda: document.update(schema=2),
        "no schema": lambda: document.pop("schema"),
        "device": lambda: document.update(device=[1]),
        "threads": lambda: document["device"].update(threads="2"),
        "no runs": lambda: document.update(runs=None),
        "a run": lambda: document.update(runs=[3]),
        "a run's id": lambda: document["runs"][0].update(id=None),
        "no rows": lambda: document.pop("rows"),
        "a row": lambda: document.update(rows=["x"]),
        "no problem": lambda: first.pop("problem"),
        "a problem's cell": lambda: first["problem"].update(cell="lsmt"),
        "a problem's size": lambda: first["problem"].update(batch=0),
        "a size that is true": lambda: first["problem"].update(batch=True),
        "a problem's lengths": lambda: first["problem"].update(lengths="some"),
        "another field": lambda: first["problem"].update(more=1),
        "use": lambda: first.update(use=["training"]),
        "run": lambda: first.update(run=1),
        "run that is true": lambda: first.update(run=True),
        "run below": lambda: first.update(run=-1),
        "medians": lambda: first.update(median_ns=[1]),
        "median": lambda: first["median_ns"].update(hoisted=0),
        "median that is no number": lambda: first["median_ns"].update(hoisted=float("nan")),
        "tied": lambda: first.update(tied="aten"),
        "order": lambda: first.update(order=[]),
        "order of others": lambda: first.update(order=["naive"]),
        "order of no names": lambda: first.update(order=[{}]),
    }
    if change in changes:
        changes[change]()
        return json.dumps(document).encode()
    text = json.dumps(document).encode()
    return {"cut": text[:-9], "empty": b"", "list": b"[]", "deep": b"[" * 99_999, "bytes": b"\xff"}[
        change
    ]


SPOILT = (
    *("schema", "no schema", "device", "threads", "no runs", "a run", "a run's id", "no rows"),
    *("a row", "no problem", "a problem's cell", "a problem's size", "a size that is true"),
    *("a problem's lengths", "another field", "use", "run", "run that is true", "run below"),
    *("medians", "median", "median that is no number", "tied", "order", "order of others"),
    *("order of no names", "cut", "empty", "list", "deep", "bytes"),
)


@pytest.mark.parametrize("change", SPOILT)
def test_what_is_no_such_file_is_refused_in_one_line(change: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        measured.parsed(spoilt(change))


def test_a_broken_file_is_told_once_and_passed_over(own: Path) -> None:
    path = put(own, row())
    path.write_bytes(spoilt("use"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [held() for _ in range(3)]
    (said,) = caught
    assert str(said.message) == f"measured results: {found[0][0].refused}; auto ignores them"
    assert found[0][0].rows == ()
    assert found[0][0].refused == (f"{path.name} is broken: the use of a row is ['training']")


@pytest.mark.parametrize("what", ["folder", "pipe", "large"])
def test_what_cannot_be_read_is_passed_over(
    own: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(own, row())
    if what == "large":
        monkeypatch.setattr(measured, "MOST_BYTES", 10)
    else:
        path.unlink()
        path.mkdir() if what == "folder" else os.mkfifo(path)
    with pytest.warns(UserWarning, match=rf"measured results: {path.name} .*; auto ignores them"):
        assert held()[0].rows == ()


def test_of_a_problem_measured_twice_the_newer_run_counts() -> None:
    old, new = run_of(id="old", start="2026-01-01"), run_of(id="new", start="2026-02-01")
    first = Measured(ZEN, (row(("naive", "aten"), run=new), row(("aten",), "inference", run=old)))
    second = Measured(ZEN, (row(run=old), row(batch=1, run=old)))
    for files in ([first, second], [second, first]):
        kept = measured.merged(files)
        found = [(each.problem.batch, each.use, each.run.id) for each in kept.rows]
        assert found == [(1, "training", "old"), (4, "inference", "old"), (4, "training", "new")]
    another = Measured(ZEN, (row(run=run_of(torch="2.1.0")),))
    assert len(measured.merged([first, second, another]).rows) == 4
    with pytest.raises(ValueError, match="2 files of 2 classes"):
        measured.merged([first, Measured(replace(ZEN, threads=1), ())])
    assert problem() == kept.rows[1].problem
