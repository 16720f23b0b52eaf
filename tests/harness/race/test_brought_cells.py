"""A cell that a plugin brings, through the whole main job, and read where the plugin is not."""

import json
import sys
from dataclasses import replace

import pytest
from bench import bench, environment, manifest_of, records_of

import lstm_harness as lb
from lstm_harness.interop import benchmark_json
from lstm_harness.model.protocol import LearnCells, LoadBackend, MakeAnswer
from lstm_harness.race.process import Failed, WorkerProcess, WorkerSettings
from lstm_harness.store import run_folder
from lstm_kernels import CELLS, Problem
from lstm_kernels.cells import from_data

# The reset stands apart from the product with x, as a GRU's: of a cell's features, many.
CELL = """
from lstm_kernels.cells import cell, sigmoid, tanh

@cell(gates="f n", states="h c", per_unit="u", apart="n")
def minimal(p, h, c, u):
    f = sigmoid(p.f + u * c)
    c = c + f * (tanh(p.n_x + f * p.n_h) - c)
    return tanh(c), c

CELLS = [minimal]
"""
# One more operation, and nothing else.
CHANGED = CELL.replace("return tanh(c)", "return tanh(c + c)")
LSTM = CELL.replace("minimal", "lstm")
NORMALISING = """
from lstm_kernels.cells import batch_norm, cell, layer_norm, sigmoid, tanh

@cell(gates="f n", states="h", per_unit="u", bare="f n", starts={"u": 1})
def normalising(p, h, u):
    f = sigmoid(layer_norm(p.f_x + p.f_h) + p.f_b)
    return h + f * (tanh(u * batch_norm(p.n_x + p.n_h) + p.n_b) - h)

CELLS = [normalising]
"""
BACKEND = """
import torch
from lstm_kernels import Backend
from lstm_kernels.backends import naive, hoisted

BACKENDS = [
    Backend("right", __name__ + ":naive", "as it should be", any_cell=True),
    Backend("wrong", __name__ + ":Wrong", "its gradients are", any_cell=True),
    Backend("shy", __name__ + ":hoisted", "PyTorch's cells alone"),
]

class Wrong:
    unsupported = staticmethod(naive.unsupported)

    def layer(x, h0, c0, weights, **more):
        y, h, c = naive.layer(x, h0, c0, weights, **more)
        return y + (x.sum() - x.sum().detach()), h, c
"""
ENDS = """
from lstm_kernels import Backend
from lstm_kernels.backends import naive
BACKENDS = [Backend("ends", __name__, "ends whoever asks", any_cell=True)]
def unsupported(problem, device):
    import os; os._exit(3)
layer = naive.layer
"""
SMALL = ["--seq-len", "3", "--batch", "2", "--hidden", "4", "--threads", "1"]
QUICK = [*SMALL, "--blocks", "1", "--min-samples", "3", "--time-budget", "1", "--quiet"]


@pytest.fixture
def plugin(here):
    def write(text: str, name: str = "my_cell") -> str:
        path = here / f"{name}.py"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def race(plugin, command, here, forget_cells):
    """A run of the cell with two backends, made; then the plugin is gone, and so is the cell."""
    path = plugin(CELL)
    asked = ["--plugin", path, "--cell", "minimal", "--backend", "naive,hoisted", *QUICK]
    code, _, err = command("run", *asked, "--pass", "forward", "--out", "race")
    assert code == 0, err
    (here / "my_cell.py").unlink()
    forget_cells()
    return here / "race"


def test_a_plan_has_the_cell_and_who_runs_it(plugin, document):
    flags = ("--plugin", plugin(CELL), "--cell", "minimal,lstm", *SMALL)
    found = document("plan", *flags, "--backend", "naive,aten", "--pass", "inference", "--json")
    assert [case["problem"]["cell"] for case in found["cases"]] == ["minimal", "lstm"]
    assert [(skip["backend"], skip["case"]) for skip in found["skips"]] == [("aten", 0)]


def test_it_is_verified_with_its_gradients_and_no_plugin_is_imported_here(plugin, command):
    path = plugin(CELL + BACKEND)
    names = "naive,compiled,right,wrong,shy"
    asked = ["--plugin", path, "--cell", "minimal", "--backend", names, *SMALL]
    code, out, _ = command("verify", *asked, "--pass", "forward", "--json", "--quiet")
    assert code == 4
    found = {row["backend"]: row for row in json.loads(out)}
    right = {"naive": "ok", "compiled": "ok", "right": "ok"}
    status = {name: row["status"] for name, row in found.items()}
    assert status == right | {"wrong": "incorrect", "shy": "unsupported"}
    assert "d_x" in found["wrong"]["reason"]
    assert {"d_x", "d_h0", "d_c0"} <= found["naive"]["errors"].keys()
    assert not [name for name in sys.modules if name.startswith("lstm_plugin_my_cell")]
    assert "minimal" in CELLS


def test_one_that_normalises_is_verified_where_a_backend_runs_it(plugin, command):
    path = plugin(NORMALISING)
    asked = ["--plugin", path, "--cell", "normalising", "--backend", "naive,hoisted,numba_cpu"]
    sizes = ["--seq-len", "3", "--batch", "5", "--hidden", "4", "--threads", "1"]
    _, out, _ = command("verify", *asked, *sizes, "--pass", "train", "--json", "--quiet")
    found = {row["backend"]: row for row in json.loads(out)}
    status = {name: row["status"] for name, row in found.items()}
    assert status == {"naive": "ok", "hoisted": "ok", "numba_cpu": "unsupported"}
    assert "'normalising' normalises over" in found["numba_cpu"]["reason"]
    assert "d_per_unit" in found["naive"]["errors"]


def test_a_run_keeps_the_definition_and_is_read_without_the_plugin(race, command, forget_cells):
    (definition,) = manifest_of(race)["definitions"]
    assert definition["name"] == "minimal"
    assert {record["status"] for record in records_of(race)} == {"ok"}
    for words in (
        ["report", "race"],
        ["compare", "race", "race"],
        ["history", "."],
        ["export", "race", "--format", "csv", "-o", "race.csv"],
        ["baseline", "save", "race", "kept"],
    ):
        forget_cells()
        code, out, err = command(*words)
        assert code == 0, err
    forget_cells()
    code, out, err = command("check", "race", "--baseline", "kept", "--json")
    assert json.loads(out)["verdicts"][0]["case"]["cell"] == "minimal"
    assert CELLS["minimal"] == from_data(definition)


@pytest.mark.parametrize("status", ["ok", "crashed"])
def test_pytest_benchmarks_json_has_the_definition(race, here, command, forget_cells, status):
    (definition,) = manifest_of(race)["definitions"]
    run = run_folder.load(race)
    if status != "ok":
        # Of samples that are not there none can be marked; a file may say so.
        failed = {"status": status, "reason": "on purpose", "samples_ns": (), "marked": (0,)}
        run = replace(run, records=tuple(replace(each, **failed) for each in run.records))
    (here / "there.json").write_bytes(benchmark_json.as_bytes(run))
    forget_cells()
    code, _, err = command("import", "there.json", "-o", "back")
    assert code == 0, err
    assert manifest_of(here / "back")["definitions"] == [definition]
    forget_cells()
    code, _, err = command("report", "back")
    assert code == 0, err


def test_pytest_benchmarks_json_without_the_definition_is_one_line(
    race, here, refused, forget_cells
):
    made = benchmark_json.document(run_folder.load(race))
    for benchmark in made["benchmarks"]:
        del benchmark["extra_info"]["definitions"]
    (here / "there.json").write_text(json.dumps(made))
    forget_cells()
    assert "'minimal'" in refused("import", "there.json", "-o", "back")
    for benchmark in made["benchmarks"]:
        benchmark["extra_info"]["definitions"] = 3
    (here / "there.json").write_text(json.dumps(made))
    assert "definitions are not a list" in refused("import", "there.json", "-o", "back")


def test_a_baseline_of_it_is_read_alone(race, command, forget_cells):
    assert command("baseline", "save", "race", "kept")[0] == 0
    forget_cells()
    kept = race.parent / "results" / "baselines" / "kept.jsonl"
    code, _, err = command("compare", kept, kept)
    assert code == 0, err


def test_the_history_of_a_store_is_read_from_its_index(race, command, forget_cells):
    assert command("history", ".")[0] == 0
    assert (race.parent / ".history-index.json").exists()
    forget_cells()
    code, out, err = command("history", ".", "--json")
    assert code == 0, err
    assert "minimal" in out


def test_of_two_runs_that_define_it_otherwise_history_leaves_one_out(race, command):
    other = race.parent / "other"
    changed(race, other)
    code, out, err = command("history", ".")
    assert code == 0, err
    assert "has another cell of that name" in " ".join((out + err).split())
    code, out, err = command("history", ".", "--json")
    assert code == 0, err


def changed(race, other):
    """A copy of a run whose cell is another."""
    other.mkdir()
    manifest = manifest_of(race)
    nodes = manifest["definitions"][0]["nodes"]
    nodes.append(["tanh", len(nodes) - 1])
    manifest["definitions"][0]["after"][1] = len(nodes) - 1
    manifest |= {"id": "other", "start": "2026-01-01T00:00:00+00:00"}
    (other / "run.json").write_text(json.dumps(manifest))
    (other / "records.jsonl").write_bytes((race / "records.jsonl").read_bytes())


def test_two_runs_that_define_it_otherwise_are_not_read_together(race, refused):
    changed(race, race.parent / "other")
    line = refused("compare", "race", "other")
    assert "other/run.json defines cell 'minimal', but race" in line


@pytest.mark.parametrize(
    ("definitions", "says"),
    [
        (3, "definitions are not a list"),
        ([{"name": "minimal"}], "a cell's data is {'name': 'minimal'}; expected name, gates"),
        (None, "unknown cell 'minimal'"),
    ],
)
def test_a_manifest_with_a_spoilt_definition_is_one_line(race, refused, definitions, says):
    manifest = manifest_of(race) | {"definitions": definitions}
    (race / "run.json").write_text(json.dumps(manifest))
    line = refused("report", "race")
    assert "race/run.json is not the manifest of a run" in line
    assert says in line


def test_it_goes_on_where_it_was_cut_off(race, plugin, command):
    lines = (race / "records.jsonl").read_bytes().splitlines(keepends=True)
    (race / "records.jsonl").write_bytes(lines[0])
    plugin(CELL)
    code, _, err = command("run", "--resume", "race", "--quiet")
    assert code == 0, err
    assert [record["status"] for record in records_of(race)] == ["ok", "ok"]
    assert (race / "records.jsonl").read_bytes().startswith(lines[0])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CHANGED, "my_cell.py defines cell 'minimal', but race"),
        (CELL + "# a word more\n", "was started with another the kernels' sources"),
    ],
)
def test_it_does_not_go_on_with_another_cell(race, plugin, refused, text, says):
    plugin(text)
    assert says in refused("run", "--resume", "race", "--quiet")


def test_an_unknown_cell_is_refused_at_once_where_nobody_can_bring_one(refused, monkeypatch):
    monkeypatch.setattr("lstm_harness.race.runs.SurveyWorker", None)
    line = refused("plan", "--cell", "minimla")
    assert line.startswith("lstm-bench: unknown cell 'minimla'; known: gru, ")


def test_an_unknown_cell_is_refused_once_plugins_were_asked(plugin, refused):
    path = plugin(CELL)
    line = refused("plan", "--plugin", path, "--cell", "minimla")
    assert "unknown cell 'minimla'; did you mean 'minimal'?" in line
    broken = plugin("1 / 0", "broken")
    line = refused("plan", "--plugin", broken, "--cell", "other")
    assert line.startswith(f"lstm-bench: {broken} failed: ZeroDivisionError")
    assert "; unknown cell 'other'" in line


@pytest.mark.parametrize("value", ["two words", "", "a-b"])
def test_what_can_be_no_cell_is_refused_even_so(plugin, refused, value):
    assert "unknown cell" in refused("plan", "--plugin", plugin(CELL), "--cell", value)


def test_a_name_of_ours_is_the_users_mistake(plugin, refused):
    line = refused("plan", "--plugin", plugin(LSTM))
    assert "my_cell.py defines cell 'lstm', but lstm_kernels.cells.lstm has another" in line


def test_a_cell_whose_step_is_none_is_listed_with_its_error(plugin, document):
    path = plugin(CELL.replace("return tanh(c)", "return tanh(c) if c > 0 else c"))
    listed = {row["name"]: row for row in document("backends", "--plugin", path, "--json")}
    assert "write where(condition" in listed[path]["reason"]


def test_a_file_that_tells_of_a_cell_that_is_none_costs_itself_alone(plugin, document):
    """One that meddles with the worker that imports it."""
    lies = """
import lstm_kernels.cells as cells
real = cells.to_data
cells.to_data = lambda each: real(each) | {"nodes": [["exec", "rm"]]}
"""
    path = plugin(CELL + lies)
    rows = {row["name"]: row for row in document("backends", "--plugin", path, "--json")}
    assert "has ['exec', 'rm']; expected an operation" in rows["minimal"]["reason"]
    assert rows["naive"]["available"] is True
    assert "minimal" not in CELLS


def test_a_surveyor_that_was_ended_knows_the_cells_again(plugin, document):
    flags = ["--plugin", plugin(CELL), "--plugin", plugin(ENDS, "ends"), "--cell", "minimal"]
    found = document("plan", *flags, *SMALL, "--backend", "ends,naive", "--json")
    assert {skip["backend"] for skip in found["skips"]} == {"ends"}


def test_a_file_that_ends_the_surveyor_costs_no_cell_before_it(plugin, document):
    dies = plugin("import os; os._exit(3)", "dies")
    flags = ["--plugin", plugin(CELL), "--plugin", dies, "--cell", "minimal", *SMALL]
    found = document("plan", *flags, "--backend", "naive", "--json")
    assert found["skips"] == []
    assert [one["backend"] for one in found["absent"]] == [dies]


def test_a_suite_of_ones_own_may_name_it(plugin, document, here):
    (here / "mine.toml").write_text('[[grid]]\ncell = ["minimal"]\nhidden = 4\nbatch = 1\n')
    found = document("plan", "mine.toml", "--plugin", plugin(CELL), "--backend", "naive", "--json")
    assert {case["problem"]["cell"] for case in found["cases"]} == {"minimal"}


def test_a_worker_that_was_not_told_of_a_cell_cannot_be_asked_of_it(race, here, forked):
    """What every other worker is told, and by what: the gate that the tests above go through."""
    definitions = tuple(manifest_of(race)["definitions"])
    CELLS["minimal"] = from_data(definitions[0])
    asked = MakeAnswer(Problem("minimal", 2, 1, 3, 4), 0)
    worker = WorkerProcess(WorkerSettings("cpu", here, 1), "a")
    with pytest.raises(Failed, match="unknown cell 'minimal'"):
        worker.ask(asked)
    worker.ask(LearnCells(definitions))
    worker.ask(LoadBackend("naive", None))
    assert worker.ask(asked).rows is None
    with pytest.raises(Failed, match="expected name, gates"):
        worker.ask(LearnCells(({"name": "x"},)))
    worker.close()


def test_installed_packages_bring_cells_and_a_failing_one_is_listed(here):
    """In a process of its own: who is installed is looked for where packages are."""
    site = here / "site"
    facts = site / "theirs-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = {
        "one": "their_cells:minimal",
        "gone": "their_cells:nothing",
        "ours": "their_lstm:lstm",
    }
    lines = [f"{name} = {value}" for name, value in points.items()]
    lines += ["[lstm_kernels.backends]", "ends = their_backend:BACKENDS"]
    (facts / "entry_points.txt").write_text("\n".join(["[lstm_kernels.cells]", *lines, ""]))
    (site / "their_backend.py").write_text(ENDS)
    (site / "their_cells.py").write_text(CELL)
    (site / "their_lstm.py").write_text(LSTM)
    flags = " ".join(["--cell minimal --backend naive --pass inference --json --quiet", *SMALL])
    installed = {"env": environment(here, site)}
    done = bench(f"verify {flags}", here, **installed)
    assert done.returncode == 0, done.stderr
    assert [row["status"] for row in json.loads(done.stdout)] == ["ok"]
    rows = json.loads(bench("backends --json", here, **installed).stdout)
    listed = {row["name"]: row for row in rows}
    assert "has no attribute 'nothing'" in listed["their_cells:nothing"]["reason"]
    assert "has another cell of that name" in listed["their_lstm:lstm"]["reason"]
    assert "their_cells:minimal" not in listed
    # Whoever surveys once more after another ended it is told of them.
    asked = "plan --backend ends,naive --cell minimal --json"
    planned = json.loads(bench(asked, here, **installed).stdout)
    assert {skip["backend"] for skip in planned["skips"]} == {"ends"}
    refused = bench("plan --cell minimla --backend naive", here, **installed)
    assert refused.returncode == 2
    assert "did you mean 'minimal'?" in refused.stderr


def test_from_python_too(plugin, forked):
    run = lb.run(
        plugin=plugin(CELL),
        cell="minimal",
        backend="naive",
        passes="inference",
        seq_len=3,
        batch=2,
        hidden=4,
        threads=1,
        blocks=1,
        min_samples=3,
        time_budget=1,
        quiet=True,
    )
    assert set(run.summary["status"]) == {"ok"}
    assert set(run.summary["cell"]) == {"minimal"}


def test_in_one_process_a_cell_is_not_changed(race, plugin, refused, command):
    """As a notebook would: what was measured as `minimal` would not be told from what is now."""
    assert command("report", "race")[0] == 0
    line = refused("plan", "--plugin", plugin(CHANGED), "--cell", "minimal")
    assert "give one of them another name" in line
