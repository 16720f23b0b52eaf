"""The files that come with the package are what results/ gives, and `auto` is right by them."""

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest
import shipped_results
from places import ROOT

from lstm_harness.analysis.for_auto import device_class
from lstm_harness.analysis.ranking import ranked
from lstm_harness.analysis.summary import PROBLEM_COLUMNS, plain_rows, summarise
from lstm_kernels import Problem, measured, preference

FOLDER = ROOT / "kernels" / "lstm_kernels" / "shipped"
SCHEMA = json.loads((files("lstm_harness.model") / "schemas" / "measured.schema.json").read_text())


@pytest.fixture(scope="module")
def published():
    return shipped_results.published()


def test_the_files_are_what_the_published_runs_give(published):
    """Where this fails after a run was published: make shipped-results."""
    made = shipped_results.files_of(published)
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == made
    assert made
    for text in made.values():
        jsonschema.validate(json.loads(text), SCHEMA)
        assert len(text) < 1 << 20


def problem_of(row):
    return Problem(**{name: row[name] for name in PROBLEM_COLUMNS})


def use_of(row):
    return "inference" if row["pass"] == "inference" else "training"


def best_of(summary):
    """By problem and use, and in these by pass: which backends are tied with the fastest."""
    found = {}
    for row in plain_rows(ranked(summary)):
        if row["tie"] is True:
            passes = found.setdefault((problem_of(row), use_of(row)), {})
            passes.setdefault(row["pass"], []).append(row["backend"])
    return found


def summary_of(run):
    """What counts for `auto`: `lstm_harness.analysis.for_auto` tells why no others do."""
    summary = summarise(run.records)
    return summary[(summary["launch"] == "eager") & (summary["cache"] == "warm")]


@pytest.fixture
def auto(tmp_path, monkeypatch):
    """Whom `auto` takes on the device of a run, with its torch, by the files of a folder alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(preference, "_against", lambda name, kind, training: None)

    def on(run, folder):
        device = device_class(run.manifest)
        monkeypatch.setattr(measured, "SHIPPED", folder)
        monkeypatch.setattr(measured, "device_class", lambda *_: device)
        monkeypatch.setattr("torch.__version__", run.manifest["environment"]["torch"])
        preference.forget()
        return lambda problem, use: preference.preferred(
            problem, device.kind, use == "training", device.threads
        )

    yield on
    preference.forget()


def cases_lost(runs, folder, auto):
    """How many cases there are, and those in which `auto` takes neither the winner nor a tie.

    Of a case that several runs measured, on such devices with such a torch, the newest says.
    """
    newest = {}
    for run in sorted(runs, key=lambda run: run.manifest["start"]):
        for (problem, use), passes in best_of(summary_of(run)).items():
            torch = measured.minor_of(run.manifest["environment"]["torch"])
            newest[device_class(run.manifest), torch, problem, use] = run, passes
    lost, count = [], 0
    for (*_, problem, use), (run, passes) in newest.items():
        chosen = auto(run, folder)(problem, use)
        count += len(passes)
        lost += [
            f"{run.folder.name}: {problem.label()} {each}: {chosen.order[0]} of {best}"
            for each, best in passes.items()
            if chosen.order[0] not in best or chosen.row is None
        ]
    return count, lost


def cases_slower(runs, folder, auto):
    """Those cases of all runs in which whom `auto` takes is slower than PyTorch's own."""
    lost = []
    for run in runs:
        choose, summary = auto(run, folder), summary_of(run)
        pairs = [
            row["backend"] in ("aten", choose(problem_of(row), use_of(row)).order[0])
            for row in plain_rows(summary)
        ]
        for (problem, use), passes in best_of(summary[pairs]).items():
            name = choose(problem, use).order[0]
            lost += [
                f"{problem.label()} {each}" for each, best in passes.items() if name not in best
            ]
    return lost


def test_on_every_published_case_auto_takes_the_winner_or_a_tie(published, auto):
    count, lost = cases_lost(published, FOLDER, auto)
    assert lost == []
    assert count >= 52  # of the three runs on AMD EPYC, all but what the newest measured again


def test_in_no_published_case_auto_is_slower_than_pytorchs_own_beyond_noise(published, auto):
    assert cases_slower(published, FOLDER, auto) == []


def test_near_is_where_a_neighbour_names_the_winner_or_a_tie(published):
    """What `preference.NEAR` rests on. A tie of the neighbour's may be none here."""
    lost, count = [], 0
    rows = measured.read(FOLDER / "cpu-amd-epyc-avx512-2-threads.json").rows
    for run in published:
        if run.folder.parent.name == "amd-epyc-2core":
            for (problem, use), passes in best_of(summary_of(run)).items():
                others = tuple(row for row in rows if row.problem != problem)
                neighbour, away = preference.nearest(problem, use, others)
                assert 0 < away <= preference.NEAR
                count += 1
                if not all(neighbour.order[0] in best for best in passes.values()):
                    lost.append((problem, neighbour))
                    assert all(set(neighbour.tied) & set(best) for best in passes.values())
    assert count > 30
    assert len(lost) <= 1


def test_wrong_files_are_seen(published, auto, tmp_path):
    """Such as say that the slowest is the one to take, or PyTorch's own always."""
    for place, order in enumerate([("per_gate", "aten"), ("aten",)]):
        folder = tmp_path / str(place)
        folder.mkdir()
        for path in FOLDER.iterdir():
            found = measured.read(path)
            rows = [replace(row, order=order) for row in found.rows if order[0] in row.median_ns]
            text = measured.text_of(replace(found, rows=tuple(rows)))
            (folder / path.name).write_text(text)
        assert cases_lost(published, folder, auto)[1] != []
        assert (cases_slower(published, folder, auto) == []) == (order == ("aten",))
