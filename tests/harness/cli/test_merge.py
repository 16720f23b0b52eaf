"""`lstm-bench merge`: parts on disk become a run that every command reads."""

import shutil

import pytest
from bench import manifest_of, records_of

SMALL = "--backend aten,naive --seq-len 2,3 --batch 1 --hidden 4 --pass inference --blocks 2"


@pytest.fixture
def halves(here, command):
    """A run, and two copies of it that have lost another half each."""
    how = "--threads 1 --min-samples 3 --time-budget 2 --out whole --quiet"
    assert command("run", *SMALL.split(), *how.split())[0] == 0
    lines = (here / "whole" / "records.jsonl").read_text().splitlines(keepends=True)
    for name, kept in (("a", lines[:5]), ("b", lines[5:])):
        shutil.copytree(here / "whole", here / name)
        (here / name / "records.jsonl").write_text("".join(kept))
        text = (here / name / "run.json").read_text()
        digest = manifest_of(here / name)["records_sha256"]
        (here / name / "run.json").write_text(text.replace(f'"{digest}"', "null"))
    return here


def test_two_halves_are_one_run_and_half_of_one_goes_on(halves, command, refused):
    code, out, err = command("merge", "a", "b", "--out", "both")
    assert (code, out) == (0, "both\n")
    assert err == "8 records in 2 parts of 1 machine\n"
    assert [r["samples_ns"] for r in records_of(halves / "both")] == [
        r["samples_ns"] for r in records_of(halves / "whole")
    ]
    assert command("report", "both")[0] == 0
    assert command("check", "both", "--baseline", "whole")[0] in (0, 3)

    code, out, err = command("merge", "a", "--out", "half")
    assert (code, out) == (0, "half\n")
    assert "not whole: 5 of 8 records; go on with: lstm-bench run --resume half" in err
    assert command("run", "--resume", "half", "--quiet")[0] == 0
    assert len(records_of(halves / "half")) == 8
    assert manifest_of(halves / "half")["end"] is not None
    assert "already used" in refused("merge", "a", "--out", "both")
    assert "is not a run" in refused("merge", "nowhere", "--out", "new")
