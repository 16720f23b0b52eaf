"""`lstm-bench limits` on this CPU, and runs with and without ceilings kept."""

import json
from dataclasses import replace
from importlib.resources import files
from types import SimpleNamespace

import jsonschema
import pytest
from bench import manifest_of, records_of
from known_limits import cpu_limits, gpu_limits, limits_of_this_cpu
from told_noise import but_noise

from lstm_harness.analysis.floors.floor import floor
from lstm_harness.analysis.summary import summarise
from lstm_harness.model.ceilings import Ceilings
from lstm_harness.model.protocol import MakeProbes, ProbesMade, RoundTaken, TakeRound
from lstm_harness.race import runs
from lstm_harness.race.process import Failed
from lstm_harness.store import kept_limits, run_folder
from lstm_harness.worker.probes import cpu
from lstm_harness.worker.probes.probe import Bencher, Sample
from lstm_kernels import Problem

SIZES = ("--seq-len", "2", "--batch", "1", "--hidden", "8")
RUN = ("run", "--backend", "naive", *SIZES, "--blocks", "1", "--threads", "1", "--time-budget", "1")
# Far beyond what this machine does, and far below.
FAST = {("product", "float32 ieee"): 1e18, **{("read", f"L{n}"): 1e18 for n in (1, 2, 3)}}
SLOW = {("product", "float32 ieee"): 1e3}


def validator(name):
    text = (files("lstm_harness.model") / "schemas" / f"{name}.schema.json").read_text()
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


LIMITS, MANIFEST = validator("limits"), validator("run")


@pytest.mark.parametrize("ceilings", [cpu_limits(), gpu_limits()], ids=["cpu", "gpu"])
def test_stored_ceilings_follow_the_schema_we_ship(ceilings):
    LIMITS.validate(json.loads(json.dumps(ceilings.to_dict())))


@pytest.mark.parametrize("name", ["schema", "conditions", "ceilings", "levels", "rounds"])
def test_ceilings_without_a_required_field_are_refused(name):
    less = {n: value for n, value in cpu_limits().to_dict().items() if n != name}
    assert not LIMITS.is_valid(json.loads(json.dumps(less)))


class MakesUp:
    """A worker that has every probe of this CPU, and makes up what each of them measures."""

    def __init__(self, settings, _):
        bench = cpu.bench(settings.threads)
        made = tuple(replace(each, make=lambda: lambda: Sample(1e9, 1.0)) for each in bench.probes)
        self.bencher = Bencher(replace(bench, probes=made))

    def ask(self, request, *_):
        if isinstance(request, MakeProbes):
            return self.bencher.make()
        assert isinstance(request, TakeRound)
        return RoundTaken(tuple(self.bencher.round()))

    def close(self):
        pass


@pytest.mark.parametrize("made_up", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_limits_measures_this_cpu_keeps_what_it_found_and_tells_the_floors(
    command, here, monkeypatch, made_up
):
    monkeypatch.setattr(runs, "CEILING_ROUNDS", 1)
    if made_up:
        monkeypatch.setattr(runs, "WorkerProcess", MakesUp)
    sizes = ("--hidden", "16,256", "--batch", "1", "--seq-len", "4")
    code, out, err = command("limits", *sizes, "--threads", "1", "--json", "--quiet")
    assert code == 0, err
    document = json.loads(out)
    LIMITS.validate(document)
    found = Ceilings.from_dict(document)
    conditions = found.conditions
    assert kept_limits.kept("cpu", found.identity, conditions) == (found, "")
    assert document["kept"].startswith(str(here / "cache"))
    assert conditions["threads"] == 1
    names = [each.name for each in found.ceilings]
    assert {"read memory", "copy memory", "product float32 ieee, torch.mm"} <= set(names)
    assert {"product float32 ieee, numpy", "product float64 ieee, torch.mm"} <= set(names)
    assert found.failures.keys() <= {"product float16 ieee oneDNN", "product bfloat16 ieee oneDNN"}
    for each in found.ceilings:
        assert len(each.samples) == 1
        assert (each.low, each.high) == (None, None)
    shapes = [(row["problem"]["hidden_size"], row["pass"]) for row in document["floors"]]
    assert shapes == [(H, name) for H in (16, 256) for name in ("inference", "backward")]
    for row in document["floors"]:
        again = floor(Problem.from_dict(row["problem"]), row["pass"], found)
        assert (row["floor_ns"], row["term"]) == (again.ns, again.term)


def test_limits_prints_a_line_a_ceiling_and_a_floor(capsys):
    from lstm_harness.analysis.floors.floor import floor_rows
    from lstm_harness.cli.options import spec_of
    from lstm_harness.console import limits as show_limits

    spec = spec_of(None, None, None, None, axis_hidden="64", axis_batch="32", axis_seq_len="10")
    found = cpu_limits(failures={"product float16 ieee oneDNN": "no"}, disturbed=1, rounds=6)
    show_limits.ceilings(found)
    show_limits.floors(floor_rows(cpu_limits(), spec))
    out, err = capsys.readouterr()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "read L2 400 unknown 400 GB/s made up" in lines
    assert "no figure for product float16 ieee oneDNN: no" in lines
    assert "lstm T10 B32 H64 float32 inference 105 µs 10.5 µs products" in lines
    assert "in 1 of 6 rounds others used this machine" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("limits", "quik"), "did you mean 'quick'"),
        (("limits", "--hidden", "0"), "--hidden"),
        (("limits", "--device", "cuda"), "--device cuda"),
        (("limits", "--backend", "naive"), "--backend"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(refused, arguments, says):
    assert says in refused(*arguments)


class Dies:
    """A worker that measures one round and is gone in the next."""

    def __init__(self, *_):
        self.asked = []

    def ask(self, request, *_):
        self.asked.append(request)
        if len(self.asked) == 3:
            raise Failed("crashed", "the worker was killed by SIGSEGV")
        return ProbesMade((), (), 1, 1) if request == MakeProbes() else RoundTaken(())

    def close(self):
        self.asked.append("close")


def test_a_worker_that_dies_ends_in_a_line(refused, monkeypatch, here):
    here_is = SimpleNamespace(
        device="cpu", identity="a host", environment={"cpu": {"threads": 1, "model": "a CPU"}}
    )
    monkeypatch.setattr(runs, "look_around", lambda spec: here_is)
    monkeypatch.setattr(runs, "WorkerProcess", Dies)
    line = refused("limits", *SIZES, "--quiet", code=6)
    assert "cannot measure the ceilings: the worker was killed by SIGSEGV" in line
    assert not (here / "cache").exists()


def kept(ceilings):
    kept_limits.keep(ceilings)
    return ceilings


def test_a_run_takes_the_kept_ceilings_and_gives_each_record_its_floor(command, here):
    ceilings = kept(limits_of_this_cpu(1, FAST))
    code, _, err = command(*RUN, "--pass", "inference,train", "--out", "race")
    assert code == 0, err
    assert but_noise(err) == []
    folder = here / "race"
    manifest = manifest_of(folder)
    assert Ceilings.from_dict(manifest["limits"]) == ceilings
    LIMITS.validate(manifest["limits"])
    MANIFEST.validate(manifest)
    stored = records_of(folder)
    problem = Problem.from_dict(stored[0]["problem"])
    for record in stored:
        bound = floor(problem, record["pass"], ceilings)
        assert (record["floor_ns"], record["floor_term"]) == (bound.ns, bound.term)
        assert record["warnings"] == []
    summary = summarise(run_folder.load(folder).records)
    assert (summary["floor_share"] == summary["floor_ns"] / summary["median_ns"]).all()
    assert summary["floor_share"].between(0, 1).all()

    # A resumed run goes on with the ceilings it began with, whatever is kept by then.
    (here / "race" / "records.jsonl").write_text(json.dumps(stored[0]) + "\n")
    kept(limits_of_this_cpu(1, SLOW))
    code, _, err = command("run", "--resume", "race")
    assert code == 0, err
    again = {record["pass"]: record["floor_ns"] for record in records_of(folder)}
    assert again == {record["pass"]: record["floor_ns"] for record in stored}


def test_a_time_below_the_floor_warns_on_the_record(command, here):
    kept(limits_of_this_cpu(1, SLOW))
    code, _, err = command(*RUN, "--pass", "inference", "--out", "race")
    assert code == 0
    (record,) = records_of(here / "race")
    (warning,) = record["warnings"]
    assert "below the floor of" in warning
    assert "that products sets" in warning
    assert warning in err
    assert run_folder.load(here / "race").records[0].status == "ok"


def test_with_none_kept_one_line_says_so_and_no_record_has_a_floor(command, here):
    # Those of another number of threads are of no use to it.
    kept(limits_of_this_cpu(2, FAST))
    code, _, err = command(*RUN, "--pass", "inference", "--out", "race")
    assert code == 0
    assert but_noise(err) == [kept_limits.NONE_KEPT]
    (record,) = records_of(here / "race")
    assert record["floor_ns"] is record["floor_term"] is None
    manifest = manifest_of(here / "race")
    assert (manifest["limits"], manifest["no_limits"]) == (None, kept_limits.NONE_KEPT)


@pytest.mark.parametrize("limits", [[], {"schema": 1}, {"schema": 99}, "none"])
def test_a_manifest_with_foreign_ceilings_is_refused(here, refused, limits):
    from synthetic_runs import manifest

    (here / "race").mkdir()
    (here / "race" / "run.json").write_text(json.dumps(manifest(limits=limits)))
    assert "is not the manifest of a run" in refused("report", "race")
