"""`ab` and `selftest` as a user starts them, in a repository with two revisions of the kernels."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench import environment, records_of, start
from known_limits import limits_of_this_cpu
from repositories import commit, git
from waiting import PATIENCE_S, until

import lstm_kernels
from lstm_harness.ab.revisions import checked_out
from lstm_harness.ab.selftest import false_alarms, noise_of
from lstm_harness.console import selftest
from lstm_harness.judge.verdict import Kind, Rules, Verdict
from lstm_harness.model.errors import MeasuringFailed
from lstm_harness.race.pairs import survey_of
from lstm_harness.race.visit import FEWEST_TURNS
from lstm_harness.store import kept_limits

KERNELS = Path(lstm_kernels.__path__[0])
TINY = "--hidden 8 --seq-len 4 --batch 2 --pass inference --threads 1 --time-budget 3 --quiet"
# Fewer blocks than anybody may ask for: each starts processes that import torch.
BLOCKS = 3
HOW = f"{TINY} --min-samples 3 --blocks {BLOCKS}"
NAIVE = KERNELS / "backends" / "naive.py"
STEP = "        from_x = input_product(code, x_t, weights)\n"


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """Our kernels; then naive much slower, no word of cells that are brought, unable to start."""
    top = tmp_path_factory.mktemp("ab") / "repo"
    package = top / "kernels" / "lstm_kernels"
    shutil.copytree(KERNELS, package, ignore=shutil.ignore_patterns("__pycache__"))
    git(top.parent, "init", "--quiet", "repo")
    good = NAIVE.read_text()
    assert good.count(STEP) == 1
    steps = {
        "fast": STEP,
        "slow": STEP + "        for _ in range(200):\n            from_x = from_x.clone()\n",
    }
    for tag, step in steps.items():
        (package / "backends" / "naive.py").write_text(good.replace(STEP, step))
        commit(top, tag)
    registry = (package / "registry.py").read_text()
    assert registry.count("def brought_cells()") == 1
    (package / "registry.py").write_text(registry.replace("brought_cells", "not_yet"))
    commit(top, "before")
    (package / "registry.py").write_text("raise ImportError('broken on purpose')\n")
    commit(top, "broken")
    git(top, "checkout", "--quiet", "fast")
    return top


def sha(top, tag):
    return git(top, "rev-parse", tag)


@pytest.fixture
def run_in(command, monkeypatch):
    """Run a command line in a folder; few blocks will do."""
    monkeypatch.setattr("lstm_harness.ab.two_sides.LEAST_BLOCKS", BLOCKS)

    def go(folder, arguments):
        monkeypatch.chdir(folder)
        code, out, err = command(*arguments.split())
        assert "Traceback" not in err
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return go


@pytest.fixture
def ab(repo, run_in):
    return lambda arguments: run_in(repo, f"ab {arguments}")


@pytest.fixture
def all_in_doubt(monkeypatch):
    """Every time is measured again: what a real measurement doubts is chance."""

    def timed(verdicts):
        return [verdict for verdict in verdicts if verdict.measure == "time"]

    monkeypatch.setattr("lstm_harness.ab.two_sides.doubtful", timed)
    monkeypatch.setattr("lstm_harness.ab.rerun.doubtful", timed)


def test_a_cell_of_ones_own_is_measured_on_both_sides(repo, ab, tmp_path):
    plugin, out = tmp_path / "mine.py", tmp_path / "ab"
    plugin.write_text(
        "from lstm_kernels.cells import cell, tanh\n"
        "@cell(gates='a', states='h')\n"
        "def of_two_sides(p, h):\n"
        "    return tanh(p.a) - h\n"
        "CELLS = [of_two_sides]\n"
    )
    asked = f"--plugin {plugin} --cell of_two_sides,lstm --backend naive {HOW} --out {out} --json"
    done = ab(f"fast fast {asked}")
    assert done.returncode in (0, 1, 3), done.stderr
    for side in ("base", "new"):
        manifest = json.loads((out / side / "run.json").read_text())
        assert [one["name"] for one in manifest["definitions"]] == ["of_two_sides"]
        assert {record["status"] for record in records_of(out / side)} == {"ok"}
    # Kernels from before there were such cells measure the rest.
    done = ab(f"before fast {asked} --fail-on missing".replace(str(out), f"{out}2"))
    records = records_of(tmp_path / "ab2" / "base")
    status = {record["problem"]["cell"]: record["status"] for record in records}
    assert status == {"of_two_sides": "unsupported", "lstm": "ok"}
    assert any("have no cell of_two_sides" in record["reason"] for record in records)


def test_both_sides_are_runs_of_their_own_measured_in_turn(repo, run_in, tmp_path, all_in_doubt):
    """Started from a folder in which python would find the working tree's kernels first.

    What the verdicts of a real measurement must be is for `make judge-trials`.
    """
    out = tmp_path / "ab"
    # As a run's records, these have floors.
    kept_limits.keep(limits_of_this_cpu(1, {("product", "float32 ieee"): 1e18}))
    done = run_in(repo / "kernels", f"ab fast slow --backend naive,aten {HOW} --out {out} --json")
    assert done.returncode in (0, 1, 3), done.stderr
    told = json.loads(done.stdout)
    fast, slow = (sha(repo, tag) for tag in ("fast", "slow"))
    assert [told[side]["name"] for side in ("base", "new")] == [
        f"fast ({fast[:10]})",
        f"slow ({slow[:10]})",
    ]
    assert told["new"]["git"] == {"commit": slow, "dirty": False}
    verdicts = {v["backend"]: v for v in told["verdicts"] if v["measure"] == "time"}
    # In doubt, so measured again: twice the blocks.
    assert {v["new_blocks"] for v in verdicts.values()} == {2 * BLOCKS}
    pairs = set()
    for side, tag in (("base", "fast"), ("new", "slow")):
        manifest = json.loads((out / side / "run.json").read_text())
        assert manifest["revision"]["name"] == tag
        pairs.add(manifest["pair"])
        assert manifest["end"]
        records = records_of(out / side)
        assert len(records) == manifest["plan"]["planned_records"] == 2 * BLOCKS
        assert {record["status"] for record in records} == {"ok"}
        assert min(record["floor_ns"] for record in records) > 0
    assert len(pairs) == 1
    for side in ("base", "new"):
        assert {r["backend"] for r in records_of(out / "again" / side)} == {"naive", "aten"}
        # Inputs, order and layout of memory are drawn anew.
        seeds = [
            json.loads((at / side / "run.json").read_text())["seed"] for at in (out, out / "again")
        ]
        assert seeds == [0, 1]
    both = zip(*(records_of(out / side) for side in ("base", "new")), strict=True)
    for record, other in both:
        assert [record[name] for name in ("block", "backend")] == [
            other[name] for name in ("block", "backend")
        ]
        assert len(record["turns"]) == len(other["turns"]) >= FEWEST_TURNS
        assert sum(record["turns"]) == len(record["samples_ns"])


def test_kernels_that_this_harness_cannot_run_are_not_comparable(ab, tmp_path):
    done = ab(f"broken fast --backend naive {HOW} --out {tmp_path / 'ab'}")
    assert done.returncode == 5
    assert "the kernels of broken do not work with this harness" in done.stderr
    assert done.stderr.count("\n") == 1


def test_working_tree_is_the_new_side_and_where_it_is_wrong_it_is_never_timed(ab, repo, tmp_path):
    out = tmp_path / "ab"
    naive = repo / "kernels" / "lstm_kernels" / "backends" / "naive.py"
    good = naive.read_text()
    assert good.count(STEP) == 1
    naive.write_text(good.replace(STEP, f"{STEP[:-1]} * 1.01\n"))
    try:
        done = ab(f"fast --backend naive {HOW} --out {out} --json")
    finally:
        naive.write_text(good)
    assert done.returncode == 4, done.stderr
    assert {v["kind"] for v in json.loads(done.stdout)["verdicts"]} == {"INCORRECT"}
    assert not any(record["samples_ns"] for record in records_of(out / "new"))
    manifest = json.loads((out / "new" / "run.json").read_text())
    assert manifest["revision"] == {"name": "working tree", "commit": None}
    assert manifest["environment"]["git"] == {"commit": sha(repo, "fast"), "dirty": True}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("nope", "git knows no revision 'nope'"),
        ("fast --blocks 2", "--blocks 2: expected at least 3"),
        ("fast --margin 2", "--margin 2; expected a share"),
        ("fast --backend naive,atne", "unknown backend 'atne'; did you mean 'aten'?"),
        ("fast --fail-on speed", "--fail-on 'speed'; expected a comma list"),
        ("", "no BASE_REF; expected a commit, branch or tag, as in lstm-bench ab main"),
        ("fast --engine cloud", "unknown --engine cloud; expected one of local, ray, slurm"),
        ("fast --gpus 0", "--gpus is of engine local; type --engine local, or leave it out"),
        ("fast --cases-per-task 2", "--cases-per-task needs --engine: local, ray, slurm"),
        ("fast --engine local --blocks 2", "--blocks 2: expected at least 3"),
        ("--resume run", "--resume run goes on as planned; leave out what to run, and how"),
    ],
)
def test_wrong_usage_is_one_line(ab, arguments, says):
    done = ab(f"{arguments} {TINY}")
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--resume run --margin 0.1", "--resume run goes on as planned"),
        ("--resume run --fail-on missing", "--resume run goes on as planned"),
        ("--resume run", "run is not the run of a fleet: cannot read ab.json"),
    ],
)
def test_what_cannot_be_resumed_is_one_line(run_in, tmp_path, arguments, says):
    done = run_in(tmp_path, f"ab {arguments} --quiet")
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_fleet_of_one_cpu_is_judged_as_this_device_is(repo, ab, tmp_path):
    out = tmp_path / "ab"
    asked = f"--backend naive --device cpu {HOW} --engine local --out {out}"
    done = ab(f"fast fast {asked} --json")
    told = json.loads(done.stdout)
    assert done.returncode in (0, 1, 3), done.stderr
    assert {path.name for path in out.iterdir()} == {"ab.json", "base", "new"}
    commit = sha(repo, "fast")
    assert [told[side]["name"] for side in ("base", "new")] == [f"fast ({commit[:10]})"] * 2
    assert "the kernels' sources are the same on both sides" in told["notes"]
    manifests = [json.loads((out / side / "run.json").read_text()) for side in ("base", "new")]
    assert len({manifest["pair"] for manifest in manifests}) == 1
    for side, manifest in zip(("base", "new"), manifests, strict=True):
        assert manifest["environment"]["git"] == {"commit": commit, "dirty": False}
        records = records_of(out / side)
        assert len(records) == manifest["plan"]["planned_records"] in (BLOCKS, 2 * BLOCKS)
        assert {record["status"] for record in records} == {"ok"}
        assert manifest["parts"][0]["id"] == "block-0-case-0"
        blocks = {r["block"] for r in records if r["peak_bytes"] is not None}
        assert set(range(BLOCKS)) <= blocks, "memory is measured in the first blocks"
    again = ab(f"--resume {out} --json --quiet")
    assert (again.returncode, json.loads(again.stdout)) == (done.returncode, told)


def test_kernels_from_elsewhere_are_never_measured_in_a_revisions_name(repo, tmp_path):
    elsewhere = checked_out("slow", repo, tmp_path / "elsewhere")
    revision = checked_out("fast", repo, tmp_path / "fast")
    worker = SimpleNamespace(survey=lambda: SimpleNamespace(kernels=elsewhere.root.resolve()))
    with pytest.raises(MeasuringFailed, match=r"python imports lstm_kernels from .*elsewhere"):
        survey_of(worker, revision)


@pytest.mark.slow
def test_interrupted_it_says_where_the_records_are(repo, tmp_path):
    out = tmp_path / "ab"
    slow = f"fast slow --backend naive {TINY} --blocks 50 --time-budget 300 --out {out}"
    process = start(f"ab {slow}", repo, env=environment(tmp_path))
    until(lambda: records_of(out / "new"), process)
    process.send_signal(2)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert f"start again; results so far: lstm-bench compare {out}/base {out}/new" in err


@pytest.mark.slow
def test_selftest_keeps_the_noise_and_tells_what_it_can_resolve(run_in, tmp_path, monkeypatch):
    # By what earlier ones kept it is not judged, so it does not ask.
    monkeypatch.delattr("lstm_harness.ab.two_sides.kept")
    done = run_in(tmp_path, f"selftest --backend naive {HOW} --out self --json")
    told = json.loads(done.stdout)
    assert done.returncode == (1 if told["false_alarms"] else 0), done.stderr
    assert sum(told["verdicts"].values()) >= 1
    for case in told["noise"]:  # none where the machine was disturbed, which says nothing of it
        assert case["resolvable"] > 0.05
        assert case["difference"] >= 0
        kept = Path(told["kept"]).read_text().splitlines()
        entry = json.loads(kept[1])
        assert entry["differences"] == [round(case["difference"], 5)]
        assert len(entry["spreads"]) == 1


def test_selftest_shows_noise_and_false_alarms(capsys):
    fields = {"cell": "lstm"}
    calm = Verdict("naive", "T1", fields, Kind.SAME, ratio=1.01, low=0.98, high=1.04)
    calm = replace(calm, margin=0.05, base_blocks=8, new_blocks=8, q=1.0, se=0.01, df=7.0)
    alarm = replace(calm, backend="aten", kind=Kind.REGRESSION)
    selftest.noise(noise_of([calm, alarm], Rules(paired=True)), false_alarms([calm, alarm]))
    said = capsys.readouterr().out
    assert "1.010 (0.980 to 1.040)" in said
    assert "FALSE ALARM: aten on T1: REGRESSION of time" in said
    assert "1 false alarm in 2 cases" in said


@pytest.mark.slow
def test_check_measures_again_what_is_in_doubt(run_in, tmp_path, all_in_doubt):
    done = run_in(tmp_path, f"run --backend naive {HOW} --out now")
    assert done.returncode == 0, done.stderr
    shutil.copytree(tmp_path / "now", tmp_path / "then")
    checked = run_in(tmp_path, "check now --baseline then --rerun --json")
    (verdict,) = [v for v in json.loads(checked.stdout)["verdicts"] if v["measure"] == "time"]
    assert verdict["new_blocks"] == 2 * BLOCKS
    assert verdict["base_blocks"] == BLOCKS
    assert (tmp_path / "now-again" / "records.jsonl").exists()
    assert json.loads((tmp_path / "now-again" / "run.json").read_text())["seed"] == 1
    twice = run_in(tmp_path, "check now --baseline then --rerun")
    assert twice.returncode == 2
    assert "now-again is already used" in twice.stderr
