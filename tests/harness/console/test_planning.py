"""What `backends`, `suites` and `plan` print."""

import json


def test_plan_is_told_and_kept_nowhere(command, here):
    small = [
        "--seq-len",
        "2,4",
        "--batch",
        "1",
        "--hidden",
        "4",
        "--launch",
        "eager,graph",
        "--backend",
        "naive,cudnn",
    ]
    code, out, err = command("plan", *small)
    assert (code, err) == (0, "")
    assert "naive skips 4 cases: CUDA graphs need a CUDA device" in out.replace("\n", " ")
    assert "48 records in 3 blocks on cpu" in out
    assert [p.name for p in here.iterdir()] == ["tmp"]


def test_plan_as_json(document):
    made = document("plan", "--hidden", "4", "--backend", "aten", "--blocks", "2", "--json")
    assert made["planned_records"] == 4
    assert made["backends"] == ["aten"]


def test_backends_are_listed_with_why_not(command, document):
    rows = {row["name"]: row for row in document("backends", "--device", "cpu", "--json")}
    assert rows["aten"]["available"]
    assert not rows["cudnn"]["available"]
    assert "runs on cuda only" in rows["cudnn"]["reason"]
    assert not rows["reference"]["raced"]


def test_suites_as_json_and_as_text(command, document):
    listed = document("suites", "--json")
    assert "quick" in {suite["name"] for suite in listed}
    for suite in listed:
        assert suite["source"]
        assert suite["cases"]
    (one,) = document("suites", "quick", "--json")
    assert one in listed
    code, out, _ = command("suites", "quick")
    assert code == 0
    assert one["title"] in out


def test_what_the_documents_hold_is_plain(document):
    made = document("plan", "--hidden", "4", "--backend", "aten", "--json")
    assert json.loads(json.dumps(made)) == made
