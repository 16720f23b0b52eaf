"""What the README and the pages after it tell a newcomer to do, extracted and followed."""

import ast
import inspect
import json
import shlex
from pathlib import Path
from typing import Any

import interpreted
import pytest
from bench import bench, environment
from pages import blocks, indented, text_of

import lstm_harness as lb

BACKEND, CELL = "docs/add-a-backend.md", "docs/add-a-cell.md"


def recipe_of(page: str) -> tuple[str, str, str]:
    """The file to save, and the two commands that verify and race it."""
    verify, race = blocks(page, "sh")[0].strip().splitlines()
    return blocks(page, "python")[0], verify, race


def indented_command(page: str, start: str) -> str:
    lines = [line for block in indented(page) for line in block.splitlines()]
    return next(line for line in lines if line.startswith(start))


def arguments_of(command: str) -> tuple[str, dict[str, str]]:
    """What follows the program's name, and the variables that stand before it."""
    words = shlex.split(command)
    start = words.index("lstm-bench")
    return shlex.join(words[start + 1 :]), dict(word.split("=", 1) for word in words[:start])


@pytest.fixture
def lstm_bench(tmp_path, bench_in):
    """Run a command line of the README in a folder of its own, shortened by a few flags."""

    def go(command: str, more: str):
        arguments, variables = arguments_of(command)
        return bench_in(f"{arguments} {more}", tmp_path, **variables)

    return go


def test_the_recipe_adds_a_backend_in_one_file_and_races_it(lstm_bench, tmp_path):
    recipe, verify, race = recipe_of(BACKEND)
    (tmp_path / "my_lstm.py").write_text(recipe)
    verified = lstm_bench(verify, "--threads 1 --quiet")
    assert verified.returncode == 0, verified.stderr
    raced = lstm_bench(race, "--seq-len 8 --blocks 1 --time-budget 1 --threads 1 --quiet")
    assert raced.returncode == 0, raced.stderr
    report = Path(raced.stdout.strip().splitlines()[-1])
    assert "mine" in (tmp_path / report).read_text()


def test_a_mistake_in_the_recipe_is_found(lstm_bench, tmp_path):
    recipe, verify, _ = recipe_of(BACKEND)
    wrong = recipe.replace("i, f, g, o = gates", "f, i, g, o = gates")
    assert wrong != recipe
    (tmp_path / "my_lstm.py").write_text(wrong)
    verified = lstm_bench(verify, "--threads 1 --quiet")
    assert verified.returncode == 4
    assert "y" in verified.stderr


def test_the_recipe_adds_a_cell_in_one_file_and_races_it(lstm_bench, tmp_path):
    recipe, verify, race = recipe_of(CELL)
    (tmp_path / "my_cell.py").write_text(recipe)
    verified = lstm_bench(verify, "--threads 1 --json --quiet")
    assert verified.returncode == 0, verified.stderr
    rows = json.loads(verified.stdout)
    assert {(row["backend"], row["status"]) for row in rows} == {
        ("naive", "ok"),
        ("hoisted", "ok"),
    }
    raced = lstm_bench(race, "--seq-len 8 --blocks 1 --time-budget 1 --threads 1 --quiet")
    assert raced.returncode == 0, raced.stderr
    report = tmp_path / raced.stdout.strip().splitlines()[-1]
    assert "mine T8 B16 H128 float32" in raced.stdout
    records = [json.loads(line) for line in (report.parent / "records.jsonl").open()]
    assert {(one["backend"], one["status"]) for one in records} == {
        ("naive", "ok"),
        ("hoisted", "ok"),
        ("compiled", "ok"),
    }


def test_the_cell_of_the_recipe_is_what_its_words_say(lstm_bench, tmp_path):
    recipe, verify, _ = recipe_of(CELL)
    wrong = recipe.replace("f = sigmoid(p.f)", "f = sigmoid(p.f) if p.f else 0")
    assert wrong != recipe
    (tmp_path / "my_cell.py").write_text(wrong)
    refused = lstm_bench(verify, "--threads 1 --quiet")
    assert refused.returncode == 2
    assert "write where(condition" in refused.stderr


def test_the_layer_of_the_readme_runs():
    (example,) = (block for block in indented("README.md") if block.startswith("import torch"))
    said: dict[str, Any] = {}
    exec(example, said)
    assert said["y"].shape == (35, 8, 2 * 512)
    assert said["rnn"].why_chosen().startswith(said["rnn"].chosen_backend)


def test_the_commands_of_the_readme_are_those_of_the_pages():
    """What stands in two places is told alike."""
    readme, page = text_of("README.md"), blocks(BACKEND, "sh")[0]
    assert [line for line in page.strip().splitlines() if line not in readme] == []


def test_the_calls_from_python_are_there():
    (block,) = indented("docs/python.md")
    for call in ast.walk(ast.parse(block)):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "lb.run":
            given = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
            inspect.signature(lb.run).bind(**given)
        if isinstance(call, ast.Attribute):
            owner = {"lb": lb, "race": lb.Run}.get(ast.unparse(call.value), lb.Run)
            assert hasattr(owner, call.attr), call.attr


def test_kernels_are_checked_with_no_gpu(lstm_bench):
    command = indented_command("docs/tuning.md", "TRITON_INTERPRET=1 lstm-bench verify")
    done = lstm_bench(command, "--threads 1 --json --quiet")
    assert done.returncode == 0, done.stderr
    checked = {(row["backend"], row["status"]) for row in json.loads(done.stdout)}
    assert checked == {("triton", "ok"), ("pointwise", "ok")}


@pytest.mark.slow
def test_kernels_are_looked_into_with_no_gpu(tmp_path):
    # In a process of its own: this one's triton may be set to interpret. The last of an option
    # given twice counts: smaller, the same command compiles in seconds.
    arguments, _ = arguments_of(indented_command("docs/tuning.md", "lstm-bench inspect"))
    named = environment(tmp_path).items()
    env = {name: value for name, value in named if name not in interpreted.VARIABLES}
    env |= {"TRITON_CACHE_DIR": str(tmp_path / "cache")}
    done = bench(f"{arguments} --arch sm_90 --hidden 16 --json --quiet", tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["problem"]["dtype"] for row in rows} == {"bfloat16"}
    for row in rows:
        assert row["weight_loads_in_loop"] == 0 < row["weight_loads"]
        assert "HMMA" in row["matrix_instructions"]
        assert row["grid_is_resident"]
