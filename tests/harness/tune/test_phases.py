"""`lstm-bench phases`: its document, its table, and one line for every mistake."""

import json
import os
from importlib.resources import files

import jsonschema
import pytest

from lstm_harness.race.lock import device_lock
from lstm_harness.worker import environment

SMALL = ["--hidden", "8", "--seq-len", "3", "--batch", "2", "--threads", "1", "--quiet"]
SMALL += ["--time-budget", "0.1"]
FORWARD, BACKWARD = ["x W_ih^T", "steps"], ["backward: steps", "backward: x W_ih^T"]
PLUGIN = """
import os
from types import SimpleNamespace
from lstm_kernels import Backend
from lstm_kernels.backends import naive

class Tells:
    layer = staticmethod(naive.layer)
    def unsupported(self, problem, device):
        return "only one layer" if problem.num_layers > 1 else None
    def in_phases(self, note):
        def layer(*given, **named):
            found = naive.layer(*given, **named)
            note("all of it")
            return found
        return SimpleNamespace(layer=layer)

class Dies(Tells):
    def in_phases(self, note):
        os._exit(3)

class Boasts(Tells):
    def in_phases(self, note):
        def layer(*given, **named):
            note("a century", 3e18)
            return naive.layer(*given, **named)
        return SimpleNamespace(layer=layer)

tells, dies, boasts = Tells(), Dies(), Boasts()
BACKENDS = [
    Backend("exits", "exits_when_imported", "ends the process that asks about it"),
    Backend("tells", __name__ + ":tells", "tells its phases", devices=("cpu",)),
    Backend("dies", __name__ + ":dies", "ends its process"),
    Backend("boasts", __name__ + ":boasts", "tells of too much time"),
    Backend("gpu", __name__ + ":tells", "runs elsewhere", devices=("cuda",)),
]
"""


@pytest.fixture(autouse=True)
def plugin(here):
    """A plugin in the current folder, and the module of one of its backends."""
    (here / "mine.py").write_text(PLUGIN)
    (here / "exits_when_imported.py").write_text("import os; os._exit(5)")


def validated(found):
    path = files("lstm_harness.model") / "schemas" / "phases.schema.json"
    schema = json.loads(path.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(found)
    return found["cases"]


def test_the_document_adds_up(document):
    found = document("phases", "hoisted", *SMALL, "--json")
    assert (found["backend"], found["device"], found["threads"]) == ("hoisted", "cpu", 1)
    cases = validated(found)
    assert [case["label"] for case in cases] == [
        "lstm T3 B2 H8 float32 inference",
        "lstm T3 B2 H8 float32 train",
    ]
    for case, names in zip(cases, (FORWARD, [*FORWARD, *BACKWARD]), strict=True):
        assert [each["phase"] for each in case["phases"]] == names
        told_ns = sum(each["ns"] for each in case["phases"])
        assert told_ns + case["other_ns"] == pytest.approx(case["whole_ns"])
        for each in case["phases"]:
            assert each["share"] == pytest.approx(each["ns"] / case["whole_ns"])


def test_the_table_ends_with_the_whole(command):
    code, out, err = command("phases", "hoisted", *SMALL, "--pass", "backward")
    assert (code, err) == (0, "")
    title, head, *rows, last = out.splitlines()
    assert title == "hoisted, lstm T3 B2 H8 float32 backward on 1 thread:"
    assert head.split() == ["phase", "time", "share"]
    shown = [row.rsplit(maxsplit=3) for row in rows]
    assert [row[0].strip() for row in shown] == [*BACKWARD, "other", "whole"]
    assert shown[-1][3] == "100.0%"
    assert last.startswith("Means of the middle half of ")
    assert "As many without notes took " in last


def test_what_refuses_fails_or_ends_its_worker_is_a_row(command):
    asked = ("phases", "--plugin", "mine.py", *SMALL, "--pass", "inference")
    code, out, _ = command(*asked, "tells", "--layers", "1,2")
    assert code == 0
    assert "all of it" in out
    refused = [line for line in out.splitlines() if "unsupported" in line]
    assert refused == ["tells, lstm T3 B2 H8 L2 float32 inference: unsupported: only one layer"]
    code, out, _ = command(*asked, "dies", "--hidden", "8,9")
    assert code == 6
    assert out.count("crashed: the worker ended with exit code 3") == 2
    code, out, _ = command(*asked, "boasts")
    assert code == 4
    assert "incorrect: it noted 3.00e+09 s of an execution of " in out


def test_who_tells_no_phases_is_refused_in_one_line(refused):
    line = refused("phases", "aten", *SMALL)
    assert line == (
        "lstm-bench: backend 'aten' tells no phases: its module lacks in_phases (see "
        "lstm_kernels/phases.py); these have: hoisted, numba_cpu\n"
    )
    asked = ("phases", "--plugin", "mine.py", *SMALL)
    assert "these have: hoisted, numba_cpu, tells, dies, boasts" in refused(*asked, "naive")
    line = refused(*asked, "gpu", "--device", "cpu")
    assert "backend 'gpu' cannot be timed here: runs on cuda only" in line
    assert "did you mean 'hoisted'" in refused("phases", "hoistd", *SMALL)


@pytest.mark.slow
@pytest.mark.xdist_group("numba_cpu")
def test_numba_cpu_tells_what_its_kernels_do(document):
    pytest.importorskip("numba", reason="numba_cpu needs numba")
    (case,) = validated(document("phases", "numba_cpu", *SMALL, "--pass", "train", "--json"))
    names = [each["phase"] for each in case["phases"]]
    assert names[:2] == ["packing", "x W_ih^T"]
    assert names[-2:] == ["backward: dx", "backward: dW, db"]
    assert case["other_ns"] > 0


def test_no_other_run_has_the_device_meanwhile(refused):
    with device_lock(environment.device_identity("cpu")):
        line = refused("phases", "hoisted", *SMALL, code=6)
    assert f"another run measures on {environment.device_identity('cpu')}" in line
    assert str(os.getpid()) in line
