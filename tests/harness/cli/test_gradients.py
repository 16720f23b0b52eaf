"""`lstm-bench gradients`: cells and backends followed, refused and failing, and what is told."""

import json
import shlex
from importlib.resources import files

import jsonschema
import pytest

from lstm_harness.cli.examples import EXAMPLES

SMALL = ["--seq-len", "6", "--batch", "2", "--hidden", "4", "--threads", "1", "--quiet"]
TWO = [*SMALL, "--seeds", "2"]
CELLS = """
from lstm_kernels.cells import cell, tanh

@cell(gates="n", states="h")
def keeps(p, h):
    return h + 0.000001 * tanh(p.n)

@cell(gates="n", states="h")
def saturates(p, h):
    return tanh(p.n + 8)

CELLS = [keeps, saturates]
"""
BACKENDS = """
import os
from lstm_kernels import Backend
from lstm_kernels.backends import naive

class Detaches:
    unsupported = staticmethod(naive.unsupported)
    def layer(*given, **named):
        y, h, c = naive.layer(*given, **named)
        return y, h.detach(), c

class Dies(Detaches):
    def layer(*given, **named):
        os._exit(3)

class Forward(Detaches):
    layer = staticmethod(naive.layer)

BACKENDS = [
    Backend("dies", __name__ + ":Dies", "ends its process"),
    Backend("detaches", __name__ + ":Detaches", "gives a state on no graph"),
    Backend("forward", __name__ + ":Forward", "has no gradients", passes=("inference",)),
]
"""


@pytest.fixture
def plugin(here):
    def write(text: str) -> list[str]:
        (here / "mine.py").write_text(text)
        return ["--plugin", "mine.py"]

    return write


def validated(found):
    schema = json.loads(
        (files("lstm_harness.model") / "schemas" / "gradients.schema.json").read_text()
    )
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(found)
    return {line["name"]: line for line in found["lines"]}


def test_the_three_cells_of_the_default_are_followed_over_all_steps(document):
    found = document("gradients", *TWO, "--seed", "5", "--json")
    lines = validated(found)
    assert list(lines) == ["rnn_tanh", "lstm", "gru"]
    assert found["seeds"] == [5, 6]
    for line in lines.values():
        assert line["problem"]["dtype"] == "float64"
        assert [len(norms) for norms in line["norms"]] == [7, 7]
        assert line["norms"][0] != line["norms"][1]
        assert line["median"][0] == 1
        assert line["low"] <= line["median"] <= line["high"]
        assert line["half_life_steps"] > 0
    again = document("gradients", *TWO, "--seed", "5", "--json")
    assert again["lines"] == found["lines"]


def test_a_cell_of_ones_own_keeps_its_gradient_where_a_saturated_one_loses_it(document, plugin):
    own = [*plugin(CELLS), "--cell", "keeps,saturates"]
    lines = validated(document("gradients", *own, *TWO, "--json"))
    assert lines["keeps"]["median"] == pytest.approx([1] * 7, rel=1e-3)
    assert 0 < lines["saturates"]["median"][6] < 1e-18


def test_the_answer_then_a_row_a_line_then_who_is_refused_and_why(command):
    asked = ["--cell", "lstm,mgu", "--backend", "naive,aten", *TWO]
    code, out, err = command("gradients", *asked)
    assert (code, err) == (0, "")
    answer, what, header, *rows = out.splitlines()
    assert answer.startswith("2 steps before the loss, ")
    assert what.endswith("by T - t, median of 2 seeds:")
    assert header.split() == ["0", "1", "2", "5", "6", "half-life,", "steps"]
    assert [row.split("  ")[0] for row in rows[:3]] == ["lstm naive", "mgu naive", "lstm aten"]
    assert rows[0].split()[2:] == rows[2].split()[2:]
    (refused,) = rows[3:]
    assert refused.startswith("aten on mgu T6 B2 H4 float64: unsupported: it has PyTorch's cells")


def test_the_page_is_written_and_its_path_is_the_last_line(command, here):
    code, out, _ = command("gradients", *TWO, "--html", "page.html")
    assert code == 0
    assert out.splitlines()[-1] == "page.html"
    assert out.splitlines()[0] in (here / "page.html").read_text()
    code, out, _ = command("gradients", *TWO, "--html", "other.html", "--json")
    assert code == 0
    validated(json.loads(out))
    assert (here / "other.html").exists()


def test_a_backend_that_fails_costs_itself_alone(command, plugin):
    asked = [*plugin(BACKENDS), "--backend", "dies,forward,naive", "--cell", "lstm,gru"]
    code, out, err = command("gradients", *asked, *TWO, "--json")
    assert code == 6, err
    lines = validated(json.loads(out))
    assert [line["status"] for line in lines.values()] == [
        *("crashed", "crashed"),
        *("unsupported", "unsupported"),
        *("ok", "ok"),
    ]
    assert "ended with exit code 3" in lines["lstm dies"]["reason"]
    assert "does inference only" in lines["lstm forward"]["reason"]


def test_a_backend_whose_outputs_are_not_what_it_owes_is_incorrect(command, plugin):
    asked = [*plugin(BACKENDS), "--backend", "detaches,naive", "--cell", "lstm"]
    code, out, _ = command("gradients", *asked, *TWO)
    assert code == 4
    assert "detaches on lstm T6 B2 H4 float64: incorrect: h_n depends on None" in out


def test_nothing_followed_is_a_failure(command):
    code, out, _ = command("gradients", "--cell", "mgu", "--backend", "aten", *TWO, "--json")
    assert code == 6
    found = json.loads(out)
    validated(found)
    assert found["sentence"] is None


def test_a_plugin_that_fails_is_told(command, plugin):
    code, out, err = command("gradients", *plugin("raise RuntimeError('no')"), *TWO)
    assert code == 6
    assert "lstm" in out
    assert "mine.py cannot be imported: RuntimeError: no" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--cell", "lstn"), "did you mean 'lstm'"),
        (("--backend", "nave"), "did you mean 'naive'"),
        (("--backend", "reference"), "never raced"),
        (("--seeds", "0"), "--seeds"),
        (("--seeds", "1001"), "--seeds"),
        (("--seq-len", "0"), "--seq-len"),
        (("--layers", "1,2"), "--layers 1, 2: a gradient is followed through one layer"),
        (("--bidirectional", "true"), "--bidirectional True"),
        (("--lengths", "uniform:1:6", "--seq-len", "6"), "over full sequences; expected full"),
        (("--hidden", "1:21:+1"), "63 lines; expected at most 20"),
        (("--seq-len", "1000000000", "--batch", "1000000"), "GiB"),
        (("--html", "."), "it is a folder"),
        (("--pass", "forward"), "--pass"),
        (("--device", "cuda"), "finds no CUDA device"),
        (("quik",), "did you mean 'quick'"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(refused, arguments, says, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert says in refused("gradients", *arguments)


def test_the_examples_of_the_help_run(command):
    for example in EXAMPLES["gradients"]:
        small = ("--seq-len", "3", "--threads", "1", "--quiet")
        code, _, err = command(*shlex.split(example)[1:], *small)
        assert code == 0, err
