"""`lstm-bench fleet`: a run in parts on this host, and what its command line refuses."""

import shutil
import sys

import pytest
from bench import manifest_of, records_of

TINY = "--backend aten --seq-len 2 --hidden 4 --batch 1,2 --pass inference --blocks 1"
HOW = "--device cpu --threads 1 --min-samples 3 --time-budget 2 --quiet"


def test_a_fleet_of_one_cpu_leaves_an_ordinary_run(command, here):
    code, out, err = command(*f"fleet {TINY} {HOW} --out run".split())
    assert code == 0, err
    assert out.splitlines()[-1] == "run/report.html"
    assert {path.name for path in (here / "run").iterdir()} == {
        "run.json",
        "records.jsonl",
        "report.html",
    }
    assert [record["order"] for record in records_of(here / "run")] == [0, 1]
    manifest = manifest_of(here / "run")
    assert [part["id"] for part in manifest["parts"]] == ["block-0-case-0"]
    assert manifest["id"] == "run"
    again = command("fleet", "--resume", "run", "--quiet")
    assert (again[0], again[1].splitlines()[-1]) == (0, "run/report.html")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--engine cloud", "unknown --engine cloud; expected one of local, ray, slurm"),
        ("--gpus 0 --engine ray", "--gpus is of engine local; type --engine local, or leave it"),
        ("--sbatch time=1", "--sbatch is of engine slurm; type --engine slurm"),
        ("--cases-per-task 0", "--cases-per-task 0; expected 1 or more"),
        ("--until 2", "--until 2; expected a share above 0 and below 100%, like 1%"),
        ("--until fine", "--until fine; expected a share"),
        ("--budget 5", "--budget 5; expected seconds above 0, together with --until"),
        ("--resume run --blocks 4", "--resume run goes on as planned"),
        ("--resume run --until 1%", "--resume run goes on as planned"),
        ("--resume run", "run is not the run of a fleet: cannot read fleet.json"),
    ],
)
def test_it_refuses(refused, arguments, said):
    assert said in refused("fleet", *arguments.split())


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_that_is_not_installed_is_named(refused, monkeypatch, engine, package, here):
    monkeypatch.setitem(sys.modules, package, None)
    said = refused("fleet", "--engine", engine, "--out", "run")
    assert said.endswith(f"--engine {engine} needs {package}: pip install 'lstm-bench[fleet]'\n")
    assert not (here / "run").exists()


def test_a_host_without_slurm_is_told(refused, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "sbatch is not on the path" in refused("fleet", "--engine", "slurm", code=6)


def test_a_mistake_in_the_plan_leaves_no_run(refused, here):
    said = refused("fleet", *f"{TINY} {HOW} --backend nonesuch --out run".split())
    assert "unknown backend 'nonesuch'" in said
    assert not any((here / "run").iterdir())
