"""`lstm-bench inspect`: its rows, and one line for every mistake."""

import json
import subprocess
import sys

import pytest
from bench import environment
from places import SUPPORT

from lstm_kernels import Problem, registry

SMALL = SUPPORT / "small_kernels.py"
REFUSES = """
from lstm_kernels import Backend
from lstm_kernels.stack import Unsupported
BACKENDS = [Backend("refuses", __name__, "nothing", ("cuda",))]
def launches_for(problem, arch):
    raise Unsupported(f"{problem.label()} is too much for {arch}")
"""
INTERPRETERS = ("TRITON_INTERPRET", "NUMBA_ENABLE_CUDASIM")
FACTS = {
    **{"registers": int, "stack_bytes": int, "local_bytes": int, "spill_bytes": int},
    **{"shared_bytes": int, "matrix_instructions": dict, "weight_loads_in_loop": int},
    **{"occupancy": float, "regime": str, "parameters": dict, "threads": int},
    **{"compile_ms": float, "instructions": dict, "grid_is_resident": bool},
    **{"constants": dict},
}

# One worker compiles for all the tests here.
pytestmark = pytest.mark.xdist_group("inspect")


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    for variable in INTERPRETERS:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(registry, "_plugins", {})
    monkeypatch.setattr(registry, "_unavailable", {})


@pytest.fixture
def refuses(here):
    """The path of a plugin whose backend refuses everything, with its reason."""
    path = here / "refuses.py"
    path.write_text(REFUSES)
    return path


@pytest.fixture(scope="module")
def compiled(tmp_path_factory, nursery):
    """Run `inspect` on the small kernels in a process that compiles; one cache for all."""
    pytest.importorskip("triton")
    folder = tmp_path_factory.mktemp("inspect")
    clean = {
        name: value
        for name, value in environment(folder).items()
        if "TRITON" not in name and name not in INTERPRETERS
    }
    clean |= {"TRITON_CACHE_DIR": str(folder / "cache")}
    return lambda more: nursery.bench(f"inspect small --plugin {SMALL} {more}", folder, clean)


def test_rows_of_two_sizes_and_a_refusal(compiled):
    done = compiled("--hidden 32,64,128 --dtype float16 --seq-len 9 --batch 2 --json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    found = [(row["problem"]["hidden_size"], row["kernel"], row.get("regime")) for row in rows]
    # The hook gives the resident one twice; a kernel has one row a problem.
    assert found == [
        (32, "recurrent", "resident"),
        (32, "recurrent", "streamed"),
        (64, "recurrent", "resident"),
        (64, "recurrent", "streamed"),
        (128, None, None),
    ]
    for row in rows[:-1]:
        assert {name: type(row[name]) for name in FACTS} == FACTS
        assert (row["arch"], row["status"], row["reason"]) == ("sm_90", "ok", "")
        assert Problem.from_dict(row["problem"]).batch == 2
        assert row["matrix_instructions"].keys() == {"HGMMA"}
        assert (row["weight_loads_in_loop"] > 0) == (row["regime"] == "streamed")
        assert row["constants"]["H"] == row["problem"]["hidden_size"]
        assert row["constants"]["PRECISION"] is None
    assert (rows[-1]["status"], rows[-1]["reason"]) == ("unsupported", "H=128 is above 64")


@pytest.mark.slow
def test_table_has_a_line_a_kernel_on_every_architecture(compiled):
    done = compiled("--hidden 64,128 --dtype float16 --arch sm_80,sm_90")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[5] for line in lines if "recurrent resident" in line] == ["sm_80", "sm_90"]
    assert sum("recurrent streamed STREAMED=True " in line for line in lines) == 2
    assert sum(" HMMA 32 " in line for line in lines) == 2
    assert sum("H128" in line and "H=128 is above 64" in line for line in lines) == 2


@pytest.mark.slow
def test_a_hook_that_fails_is_a_row_and_an_exit_code(compiled):
    done = compiled("--cell lstm,gru --hidden 64 --dtype float16 --json")
    assert done.returncode == 6, done.stderr
    *kernels, failed = json.loads(done.stdout)
    assert {row["status"] for row in kernels} == {"ok"}
    assert failed["status"] == "error"
    assert failed["reason"] == "launches_for failed: ValueError: of two lines"


def test_a_kernel_that_does_not_compile_is_a_row(compiled):
    # Matrix units take no fewer than 16 columns.
    done = compiled("--hidden 8 --dtype float16 --json")
    assert done.returncode == 6, done.stderr
    for row in json.loads(done.stdout):
        assert row["status"] == "error"
        assert "does not compile: " in row["reason"]


def test_sizes_that_nobody_gives_are_the_usual_ones(refuses, document):
    rows = document("inspect", "refuses", "--plugin", refuses, "--json", "--quiet")
    problems = [Problem.from_dict(row["problem"]) for row in rows]
    assert len(problems) == 21
    assert {problem.hidden_size for problem in problems} == {64, 128, 256, 512, 768, 1024, 2048}
    assert {problem.dtype for problem in problems} == {"float16", "bfloat16", "float32"}
    assert {(problem.cell, problem.batch, problem.seq_len) for problem in problems} == {
        ("lstm", 16, 64)
    }
    assert rows[0]["reason"] == f"{problems[0].label()} is too much for sm_90"


def test_sizes_may_be_given_and_may_be_a_suites(refuses, document):
    asked = ("inspect", "refuses", "--plugin", refuses, "--json", "--quiet")
    rows = document(*asked, "--hidden", "30", "--dtype", "float32", "--batch", "3")
    assert [Problem.from_dict(row["problem"]).label() for row in rows] == [
        "lstm T64 B3 H30 float32"
    ]
    suite = document("suites", "deepbench-infer", "--json")
    cases = [case["problem"] for row in suite for case in row["cases"]]
    rows = document(*asked, "deepbench-infer")
    assert [row["problem"] for row in rows] == list({str(p): p for p in cases}.values())


def test_mistakes_are_one_line(refuses, refused, here, monkeypatch):
    asked = ("inspect", "refuses", "--plugin", refuses)
    assert "did you mean 'sm_90'" in refused(*asked, "--arch", "sm_91")
    assert "--arch is empty" in refused(*asked, "--arch", ",")
    assert "did you mean 'naive'" in refused("inspect", "nave")
    assert "'naive' has no kernels of its own" in refused("inspect", "naive")
    assert "no such file" in refused("inspect", "refuses", "--plugin", "nowhere.py")
    assert "float23" in refused(*asked, "--dtype", "float23")
    for variable in INTERPRETERS:
        monkeypatch.setenv(variable, "1")
        assert f"unset {variable}" in refused(*asked)
        monkeypatch.delenv(variable)


PLUGINS = {
    "raises": ("raise RuntimeError('not today')", "RuntimeError: not today"),
    "exits": ("import sys; sys.exit('goodbye')", "goodbye"),
    "wants": (
        "from lstm_kernels import Backend\n"
        'BACKENDS = [Backend("mine", __name__, "x", requires=("no_such_package.inside",))]',
        "needs no_such_package.inside",
    ),
    "breaks": (
        'from lstm_kernels import Backend\nBACKENDS = [Backend("mine", "no.such.module", "x")]',
        "cannot be imported: ModuleNotFoundError",
    ),
}


@pytest.mark.parametrize("name", PLUGINS)
def test_plugins_that_fail_are_one_line(here, refused, name):
    text, says = PLUGINS[name]
    (here / "mine.py").write_text(text)
    assert says in refused("inspect", "mine", "--plugin", "mine.py")


HELP = """
import sys
from lstm_harness.__main__ import run
assert run(["inspect", "--help"]) == 0
assert not {"torch", "triton", "pandas", "numpy"} & sys.modules.keys()
"""


def test_help_imports_nothing_heavy_and_offers_what_is_used(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HELP],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--arch" in done.stdout
    for dropped in ("--pass", "--cache", "--backend", "--blocks"):
        assert dropped not in done.stdout


CELL = """
from lstm_kernels.cells import cell, tanh

@cell(gates="a", states="h")
def of_inspection(p, h):
    return tanh(p.a) - h

CELLS = [of_inspection]
"""
SPEAKS = """
from lstm_kernels import Backend
from lstm_kernels.cells.code.emit import Dialect
BACKENDS = [Backend("speaks", __name__, "a dialect", any_cell=True)]
DIALECT = Dialect("its own", functions="mine.", decorator="@mine.jit")
"""


def test_the_source_of_a_cell_is_shown(command):
    code, out, err = command("inspect", "naive", "--source", "--cell", "lstm,slstm")
    assert code == 0, err
    assert out.count("def next_state(p, before, per_unit):") == 2
    assert out.count("def gradients(") == 2
    assert "= torch.sigmoid(p_o)" in out
    compile(out, "shown", "exec")


def test_the_source_of_a_cell_that_normalises(command):
    code, out, err = command("inspect", "naive", "--source", "--cell", "lstm_layernorm")
    assert code == 0, err
    assert "def next_state(p, before, per_unit, functions):" in out
    assert "gradients" not in out
    compile(out, "shown", "exec")
    code, out, err = command("inspect", "numba_cpu", "--source", "--cell", "lstm_layernorm")
    assert code == 0, err
    names = ("values_1", "values_2", "next_state", "d_normed_1", "d_normed_2", "gradients")
    assert [line.partition("(")[0] for line in out.splitlines() if line.startswith("def ")] == [
        f"def {name}" for name in names
    ]
    compile(out, "shown", "exec")
    code, out, err = command("inspect", "triton", "--source", "--cell", "lstm,lstm_batchnorm")
    assert (code, out) == (2, "")
    assert "'triton' does not run cell 'lstm_batchnorm'" in err
    assert "lstm_batchnorm normalises over the batch" in err


def test_the_source_of_ones_own_cell_in_a_dialect_of_ones_own(here, document):
    (here / "mine.py").write_text(CELL)
    (here / "speaks.py").write_text(SPEAKS)
    asked = ("--plugin", "mine.py", "--plugin", "speaks.py", "--cell", "of_inspection", "--json")
    found = document("inspect", "speaks", "--source", *asked)
    assert found.keys() == {"of_inspection"}
    assert found["of_inspection"].startswith("@mine.jit\ndef next_state(")
    assert "= mine.tanh(p_a)" in found["of_inspection"]


def test_what_has_no_source_is_one_line(here, refused):
    line = refused("inspect", "aten", "--source")
    assert "'aten' has no code generated from a cell's definition" in line
    (here / "mine.py").write_text("1 / 0")
    line = refused("inspect", "naive", "--source", "--plugin", "mine.py", "--cell", "mine")
    assert "unknown cell 'mine'" in line
    assert "mine.py failed: ZeroDivisionError" in line
