"""A training on disk: read as it was written, and refused where it is none."""

import json
from dataclasses import asdict, replace

import pytest

from lstm_harness.model.errors import UserError
from lstm_harness.model.training import (
    Curve,
    End,
    Learnt,
    Line,
    Point,
    TrainingManifest,
    TrainingSpec,
)
from lstm_harness.store import run_folder, training_folder
from lstm_harness.store.training_folder import TRAINING

SPEC = TrainingSpec("adding", ("aten", "naive"), ("lstm",), (0, 1), 60.0)
MANIFEST = TrainingManifest(
    schema=1,
    id="t",
    lstm_bench="0",
    command=("lstm-bench", "train"),
    spec=SPEC,
    device="cpu",
    environment={"cpu": {"model": "a CPU"}},
    kernels_digest="d",
    start="2026-11-30T00:00:00+00:00",
)
FIRST = Curve(0, "lstm", "aten")
POINT = Point(10, 1.5, 500, 0.25, None, {"mean squared error": 0.2}, (1.0, None))
END = End("ok", "", 3.0, 0.16, 100, ("a line",), {"mean squared error": 0.2})


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "t"
    run_folder.create(place, TRAINING)
    run_folder.write_manifest(place, asdict(MANIFEST), TRAINING)
    append(place, Line(FIRST, POINT), Line(FIRST, end=END))
    return place


def append(place, *lines):
    with run_folder.appender(place, TRAINING) as file:
        for line in lines:
            file.append(line)
        return file.close()


def test_it_is_read_as_it_was_written(folder):
    found = training_folder.load(folder)
    assert found.manifest == MANIFEST
    assert found.curves[0] == Learnt(FIRST, (POINT,), END)
    others = [Curve(0, "lstm", "naive"), Curve(1, "lstm", "aten"), Curve(1, "lstm", "naive")]
    assert list(found.curves[1:]) == [Learnt(curve) for curve in others]
    assert training_folder.is_one(folder)
    assert not training_folder.is_one(folder.parent)


def test_a_torn_line_is_dropped_and_an_edit_is_told(folder):
    digest = append(folder)
    closed = asdict(replace(MANIFEST, curves_sha256=digest))
    run_folder.write_manifest(folder, closed, TRAINING)
    assert not training_folder.load(folder).edited
    path = folder / "curves.jsonl"
    content = path.read_text()
    path.write_text(content + '{"curve": {"se')
    assert len(training_folder.load(folder).curves[0].points) == 1
    path.write_text(content.replace("0.25", "0.15"))
    assert training_folder.load(folder).edited


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((Line(replace(FIRST, seed=7), POINT),), "line 3: aten, lstm, seed 7 is not a curve"),
        ((Line(FIRST, POINT),), "line 3: aten, lstm, seed 0 continues after its end"),
        (
            (Line(replace(FIRST, seed=1), POINT), Line(replace(FIRST, seed=1), POINT)),
            "line 4: aten, lstm, seed 1 has step 10 after 10",
        ),
    ],
    ids=["foreign", "after its end", "backwards"],
)
def test_what_is_no_line_of_its_curves_is_refused(folder, lines, said):
    append(folder, *lines)
    with pytest.raises(UserError, match=said):
        training_folder.load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "has schema 2; this lstm-bench reads up to 1"),
        ({"point": {"step": "ten"}}, r"line 1 is not a line of a curve: it\.point has no field"),
        ({"end": asdict(END)}, "it needs either a point or an end"),
    ],
    ids=["newer", "malformed", "both"],
)
def test_a_line_that_does_not_fit_is_named(folder, change, said):
    path = folder / "curves.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{json.dumps(json.loads(first) | change)}\n{second}\n")
    with pytest.raises(UserError, match=said):
        training_folder.load(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not a training: cannot read training.json"),
        ("[", "is not JSON"),
        ("[]", "has schema None"),
        ('{"schema": 1}', "is not the manifest of a training: it has no field 'id'"),
    ],
)
def test_a_manifest_that_is_none_is_one_line(folder, content, said):
    path = folder / "training.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(UserError, match=said):
        training_folder.load(folder)


def test_a_full_place_says_how_to_go_on(folder):
    with pytest.raises(UserError, match=r"to go on with that train: lstm-bench train --resume"):
        run_folder.refuse_used(folder, TRAINING)
