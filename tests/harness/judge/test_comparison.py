"""`compare` tells and `check` judges: each exit code by the command that ends with it."""

import json
import re
import shlex
import subprocess
import sys
from importlib.resources import files

import jsonschema
import pytest
from bench import environment as clean
from places import ROOT
from saved_runs import save
from synthetic_runs import blocks, case, environment, record

from lstm_harness.judge import noise
from lstm_harness.judge.comparison import exit_code, kinds_named
from lstm_harness.judge.verdict import Kind, Verdict
from lstm_harness.model.errors import Exit

NS = 1_000_000
STEADY = (1.0, 1.004, 0.997, 1.002, 0.999)
WILD = (1.0, 1.6, 0.7, 1.2, 0.8)


def times(backend="naive", factor=1.0, spread=STEADY, **fields):
    return blocks(backend, [int(NS * factor * s) for s in spread], **fields)


def failed(backend, status):
    return [record(backend, status=status, block=block) for block in range(5)]


def validator():
    schema = files("lstm_harness.model") / "schemas" / "verdicts.schema.json"
    return jsonschema.Draft202012Validator(json.loads(schema.read_text()))


BASE = [*times("naive"), *times("aten")]


@pytest.fixture
def checked(command, here):
    """Keep some records as the baseline, check others against it; exit code and document."""

    def go(new, *options, base=BASE, **fields):
        save(here / "old", base)
        assert command("baseline", "save", "old", "main")[0] == 0
        save(here / "new", new, **fields)
        code, out, err = command("check", "new", "--baseline", "main", "--json", *options)
        assert "Traceback" not in err
        return code, json.loads(out)

    return go


def kinds(document):
    return {(v["backend"], v["measure"]): v["kind"] for v in document["verdicts"]}


class TestExitCodes:
    def test_0_where_nothing_got_worse(self, checked):
        code, found = checked([*times("naive"), *times("aten", 0.8)])
        assert code == found["exit_code"] == 0
        assert kinds(found) == {("naive", "time"): "SAME", ("aten", "time"): "IMPROVEMENT"}
        assert found["headline"] == "No regression"

    def test_1_where_one_is_slower(self, checked):
        code, found = checked([*times("naive", 1.2), *times("aten")])
        assert code == 1
        assert found["verdicts"][0]["backend"] == "naive"
        assert found["verdicts"][0]["kind"] == "REGRESSION"

    @pytest.mark.parametrize(
        ("grown", "options", "code"),
        [
            (128, (), 0),
            (128, ("--memory-margin", "0"), 1),
            (10_001, (), 1),
            (10_001, ("--memory-margin", "0.02"), 0),
        ],
    )
    def test_1_where_memory_grew_by_more_than_its_margin(self, checked, grown, options, code):
        size = 1_000_000
        base = times("naive", saved_bytes=size)
        ends, found = checked(times("naive", saved_bytes=size + grown), *options, base=base)
        assert ends == code
        assert (kinds(found).get(("naive", "saved_bytes")) == "REGRESSION") == (code == 1)
        assert kinds(found)["naive", "time"] == "SAME"

    @pytest.mark.parametrize("gone", [[], failed("aten", "unsupported")])
    def test_1_where_a_case_vanished_or_is_refused_now(self, checked, gone):
        code, found = checked([*times("naive"), *gone])
        assert code == 1
        assert kinds(found)["aten", "time"] == "MISSING"

    def test_1_where_everything_vanished(self, checked):
        assert checked([])[0] == 1

    def test_3_only_where_asked_to_fail_on_it(self, checked, command):
        code, found = checked([*times("naive", spread=WILD), *times("aten")])
        assert code == 0
        assert kinds(found)["naive", "time"] == "INCONCLUSIVE"
        assert found["headline"] == "No regression proven"
        strict = ("--fail-on", "regression,missing,inconclusive")
        assert command("check", "new", "--baseline", "main", *strict)[0] == 3

    def test_3_where_no_time_could_be_told(self, checked, command):
        code, found = checked([*times("naive", spread=WILD), *times("aten", spread=WILD)])
        assert code == found["exit_code"] == 3
        assert found["headline"] == "Nothing could be told"
        assert found["advice"].startswith("to see 5% here: use lstm-bench ab")
        assert command("compare", "old", "new")[0] == 0

    def test_memory_that_was_told_does_not_make_up_for_times(self, checked):
        base = times("naive", saved_bytes=1_000_000)
        assert checked(times("naive", spread=WILD, saved_bytes=500_000), base=base)[0] == 3

    def test_4_where_a_result_is_wrong(self, checked):
        code, _ = checked([*times("naive"), *failed("aten", "incorrect")])
        assert code == 4

    def test_4_outranks_every_other(self, checked):
        new = [*times("naive", 2.0), *failed("aten", "incorrect"), *failed("mine", "crashed")]
        base = [*times("naive"), *times("aten"), *times("gone"), *times("mine")]
        assert checked(new, base=base)[0] == 4

    def test_4_outranks_another_machine(self, checked):
        other = environment() | {"cpu": {"model": "B CPU"}}
        assert checked([*failed("naive", "incorrect")], environment=other)[0] == 4

    def test_5_where_the_baseline_is_missing(self, refused, here):
        save(here / "new", times())
        line = refused("check", "new", "--baseline", "main", code=5)
        assert "main is neither a run's folder nor a baseline" in line
        assert "neither" in refused("check", "new", "--baseline", "no/where.jsonl", code=5)

    def test_5_where_the_baseline_is_torn(self, refused, here):
        save(here / "new", times())
        (here / "torn.jsonl").write_text('{"baseline_schema": 1, "cells": 7}\n')
        assert "is torn" in refused("check", "new", "--baseline", "torn.jsonl", code=5)

    def test_5_where_the_machine_is_another(self, checked):
        other = environment() | {"cpu": environment()["cpu"] | {"model": "B CPU", "threads": 1}}
        code, found = checked(BASE, environment=other)
        assert code == 5
        assert set(kinds(found).values()) == {"INCOMPARABLE"}
        assert found["differences"] == [
            "cpu A CPU in the base, B CPU in the new",
            "threads 2 in the base, 1 in the new",
        ]
        assert found["verdicts"][0]["reason"] == "; ".join(found["differences"])

    def test_5_where_the_precision_is_another(self, checked):
        tf32 = case(precision="tf32")
        code, found = checked([*times("naive", of=tf32), *times("aten", of=tf32)])
        assert code == 5
        assert {v["reason"] for v in found["verdicts"]} == {
            "precision ieee in the base, tf32 in the new"
        }

    def test_5_where_one_case_is_not_comparable_only_if_asked(self, checked, command):
        new = [*times("naive"), *times("aten", of=case(precision="tf32"))]
        assert checked(new)[0] == 0
        assert command("check", "new", "--baseline", "main", "--fail-on", "incomparable")[0] == 5

    def test_5_where_nothing_was_ever_measured(self, checked):
        never = failed("naive", "unsupported")
        assert checked(never, base=never)[0] == 5

    @pytest.mark.parametrize("status", ["crashed", "timed_out", "error"])
    def test_6_where_measuring_failed(self, checked, status):
        code, found = checked([*times("naive", 2.0), *failed("aten", status)])
        assert code == 6
        assert kinds(found) == {("aten", "time"): "MISSING", ("naive", "time"): "REGRESSION"}

    def test_out_of_memory_alone_is_a_case_that_is_gone(self, checked):
        assert checked([*times("naive"), *failed("aten", "out_of_memory")])[0] == 1

    def test_improvement_fails_where_asked(self, checked, command):
        assert checked([*times("naive", 0.5), *times("aten")])[0] == 0
        assert command("check", "new", "--baseline", "main", "--fail-on", "improvement")[0] == 1

    def test_wider_margin_lets_more_pass(self, checked, command):
        assert checked([*times("naive", 1.2), *times("aten")])[0] == 1
        assert command("check", "new", "--baseline", "main", "--margin", "0.3")[0] == 0


class TestPrecedence:
    @staticmethod
    def verdict(kind, status="ok"):
        return Verdict("naive", "case", {}, kind, status=status)

    def test_order_is_4_6_5_1_3_0(self):
        """With the worst taken away one by one."""
        everything = frozenset(Kind)
        left = [
            self.verdict(Kind.INCORRECT, "incorrect"),
            self.verdict(Kind.MISSING, "crashed"),
            self.verdict(Kind.INCOMPARABLE),
            self.verdict(Kind.REGRESSION),
            self.verdict(Kind.INCONCLUSIVE),
        ]
        codes = [exit_code(left[place:], everything) for place in range(len(left))]
        assert codes == [4, 6, 5, 1, 3]
        assert exit_code([self.verdict(Kind.SAME)]) == 0

    @pytest.mark.parametrize("told", [Kind.SAME, Kind.IMPROVEMENT])
    def test_one_time_that_was_told_is_enough(self, told):
        unclear = self.verdict(Kind.INCONCLUSIVE)
        assert exit_code([unclear]) == exit_code([unclear, self.verdict(Kind.NEW)]) == 3
        assert exit_code([unclear, self.verdict(told)]) == 0

    def test_comparing_nothing_is_never_0(self):
        assert exit_code([]) == Exit.NOT_COMPARABLE
        for kind in (Kind.NEW, Kind.SKIPPED, Kind.INCOMPARABLE):
            assert exit_code([self.verdict(kind)]) == Exit.NOT_COMPARABLE

    def test_fail_on_takes_names_in_any_case(self):
        assert kinds_named("Regression, inconclusive") == {Kind.REGRESSION, Kind.INCONCLUSIVE}


class TestNoise:
    def test_what_selftest_kept_of_this_machine_widens_the_margin(self, checked, command):
        code, found = checked([*times("naive", 1.2), *times("aten")])
        assert code == 1
        slow = Verdict("naive", "x", found["verdicts"][0]["case"], Kind.SAME, ratio=1.3, q=1.0)
        noise.keep(environment(), [slow])
        code, out, _ = command("check", "new", "--baseline", "main", "--json")
        assert code == 0
        margins = {v["backend"]: v["margin_from"] for v in json.loads(out)["verdicts"]}
        assert margins == {"naive": "noise", "aten": "asked"}
        told = (
            "1 of 2 figures are judged with this machine's own noise as their margin, up to 30.0%"
        )
        assert any(note.startswith(told) for note in json.loads(out)["notes"])


class TestUsage:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (("--fail-on", "slowness"), "expected a comma list of regression"),
            (("--fail-on", ","), "--fail-on is empty"),
            (("--fail-on", "same"), "expected a comma list"),
            (("--margin", "-0.1"), "expected a share"),
            (("--margin", "5"), "expected a share"),
            (("--margin", "nan"), "expected a share"),
            (("--memory-margin", "1"), "--memory-margin 1; expected a share from 0 to below 1"),
            (("--memory-margin", "4k"), "expected a share from 0 to below 1, like 0.01 for 1%"),
            (
                ("--margin", "5%"),
                "--margin 5%; expected a share from 0 to below 1, like 0.05 for 5%",
            ),
            (("--markdown", ""), "it is a folder; give a file's name"),
            (("--html", "old"), "cannot write old: it is a folder"),
            (("--html", "x", "--junit", "x"), "x is given for two outputs"),
            (("--explain", "naive/T3"), "is in no case's name"),
            (("--explain", "nobody"), "is in no case's name; cases: aten/"),
            (("--json", "--explain", "naive"), "leave one out"),
            (("--junit", "file/x.xml"), "cannot write file/x.xml"),
            (("--junit", "file/x/y.xml"), "is not a folder; give another place"),
        ],
    )
    def test_value_that_cannot_be(self, refused, here, options, says):
        save(here / "old", BASE)
        (here / "file").touch()
        assert says in refused("check", "old", "--baseline", "old", *options)

    def test_run_to_check_that_is_not_there(self, refused, here):
        save(here / "old", BASE)
        assert "neither a run" in refused("check", "nowhere", "--baseline", "old")
        assert "neither a run" in refused("compare", "nowhere", "old")
        (here / "empty").mkdir()
        assert "not a run" in refused("compare", "old", "empty")

    def test_check_needs_a_baseline(self, refused, here):
        save(here / "old", BASE)
        assert "--baseline" in refused("check", "old")


class TestCompare:
    def test_it_tells_and_never_fails(self, command, here):
        save(here / "old", BASE)
        save(here / "new", [*times("naive", 2.0), *failed("aten", "incorrect")])
        code, out, _ = command("compare", "old", "new")
        assert code == 0
        lines = out.splitlines()
        assert [line.split()[0] for line in lines[:3]] == ["backend", "aten", "naive"]
        (wrong,) = (line for line in lines if line.startswith("INCORRECT"))
        assert "aten" in wrong
        assert lines[-1] == "A result is wrong"
        assert "new against old: 1 incorrect, 1 slower or larger" in out

    @pytest.mark.parametrize("place", ["main", "results/baselines/main.jsonl", "old"])
    def test_a_side_is_a_run_a_baseline_or_its_file(self, command, here, place):
        save(here / "old", BASE)
        command("baseline", "save", "old", "main")
        code, out, _ = command("compare", place, place, "--json")
        assert code == 0
        assert set(kinds(json.loads(out)).values()) == {"SAME"}

    def test_a_baseline_is_found_beside_a_folder_of_its_name(self, command, here):
        save(here / "old", BASE)
        command("baseline", "save", "old", "main")
        (here / "main").mkdir()
        assert command("compare", "main", "old")[0] == 0

    def test_what_else_differs_is_said_on_stderr(self, command, here):
        save(here / "old", BASE)
        other = environment() | {"torch": "2.12.0"}
        save(here / "new", BASE, environment=other, plan={"planned_records": 99})
        _, out, err = command("compare", "old", "new")
        assert "torch 2.13.0 in the base, 2.12.0 in the new" in err
        assert "new is incomplete: 10 of 99 records" in err
        assert "torch" not in out

    def test_case_that_the_run_was_cut_before_is_not_said_to_be_gone(self, command, here):
        save(here / "old", [*times("naive"), *times("aten")])
        plan = {"backends": ["naive", "aten"], "planned_records": 10}
        save(here / "new", times("naive"), plan=plan)
        out = command("compare", "old", "new")[1]
        assert "planned, and not measured: the run is not whole" in out
        command("baseline", "save", "new", "main")
        assert "in the baseline, and gone now" in command("compare", "old", "main")[1]
        assert "gone now" not in out

    def test_runs_that_ab_measured_in_turn_are_paired(self, command, here):
        """Both drift alike, which the pairs cancel."""
        drift = tuple(1 + 0.3 * block for block in range(5))
        for name, factor in (("base", 1.0), ("new", 1.3)):
            save(here / name, times(factor=factor, spread=drift), pair="ab")
        save(here / "alone", times(factor=1.3, spread=drift))
        for new, kind in (("new", "REGRESSION"), ("alone", "INCONCLUSIVE")):
            found = json.loads(command("compare", "base", new, "--json")[1])
            assert found["rules"]["paired"] is (new == "new")
            assert found["verdicts"][0]["kind"] == kind

    @pytest.mark.parametrize(
        ("factor", "said"),
        [(1.06, "slower, by a median of 6.0%"), (0.9, "faster, by a median of 10.0%")],
    )
    def test_machine_that_changed_as_a_whole_is_suspected(self, command, here, factor, said):
        save(here / "old", BASE)
        save(here / "new", [*times("naive", factor), *times("aten", factor)])
        assert f"every backend is {said} or more" in command("compare", "old", "new")[2]
        save(here / "one", [*times("naive", factor), *times("aten")])
        assert "every backend" not in command("compare", "old", "one")[2]

    def test_backend_that_the_base_had_and_took_no_part_is_named_with_its_reason(
        self, command, here
    ):
        save(here / "old", BASE)
        absent = [{"backend": "aten", "reason": "uninstalled"}, {"backend": "x", "reason": "y"}]
        save(here / "new", times(), plan={"absent": absent})
        err = command("compare", "old", "new")[2]
        assert err == "new: aten does not run: uninstalled\n"

    def test_more_than_a_screen_of_cases_lists_what_changed_alone(self, command, here):
        many = [case(seq_len=steps) for steps in range(1, 41)]
        save(here / "old", [r for of in many for r in times(of=of)])
        slow = [r for of in many[:1] for r in times(of=of, factor=1.5)]
        save(here / "new", [*slow, *(r for of in many[1:] for r in times(of=of))])
        out = command("compare", "old", "new")[1]
        assert "1 slower or larger, 39 the same" in out
        assert out.count("SAME") == 0
        assert out.count("REGRESSION") == 1


SLOW_FORMS = [pytest.param(form, marks=pytest.mark.slow) for form in ("", "--explain naive")]


@pytest.mark.parametrize("form", ["--json", *SLOW_FORMS])
def test_the_reader_may_leave_and_the_code_is_still_the_commands(here, form):
    """`set -o pipefail` could not mend it: the gate itself must not say that all is well."""
    save(here / "old", BASE)
    save(here / "new", times("naive", 2.0))
    check = [sys.executable, "-m", "lstm_harness", "check", "new", "--baseline", "old"]
    line = f"{shlex.join(check)} {form} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], env=clean(here), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


class TestExplain:
    def test_it_prints_the_numbers_behind_a_verdict(self, command, here):
        save(here / "old", times("naive", peak_bytes=100_000, cpu_ns=(NS,) * 3))
        save(here / "new", times("naive", 1.2, peak_bytes=200_000, cpu_ns=(NS * 2,) * 3))
        code, out, _ = command("check", "new", "--baseline", "old", "--explain", "NAIVE/lstm")
        assert code == 1
        for said in (
            "time: REGRESSION",
            "base: 5 blocks: 1 ms, 1.004 ms, 997 µs",
            "d = log(new/base) = +0.18",
            "margin 5%, as asked for",
            "one-sided p = ",
            "over 1 tested cases q = ",
            "by CPU time, or clock cycles: +100.0%",
            "peak memory: REGRESSION",
            "peak memory: 100,000 B to 200,000 B",
        ):
            assert said in out, said

    def test_it_explains_what_has_no_numbers(self, command, here):
        save(here / "old", [*times("naive"), *times("aten")])
        save(here / "new", failed("naive", "crashed"))
        out = command("compare", "old", "new", "--explain", "LSTM forward")[1]
        assert "new: crashed: crashed on purpose" in out
        assert "new: not there" in out
        assert "because: in the baseline, and gone now" in out


def test_the_json_follows_the_schema_we_ship(checked):
    schema = validator()
    new = [*times("naive", spread=WILD[:2]), *failed("aten", "crashed"), *times("mine")]
    _, found = checked(new)
    schema.validate(found)
    assert found["verdicts"][-1]["kind"] == "NEW"
    assert found["verdicts"][1]["ratio"] is None
    assert found["verdicts"][1]["base_block_medians"] == [int(NS * s) for s in STEADY]
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(found | {"verdicts": [found["verdicts"][0] | {"kind": "FINE"}]})


def test_every_field_of_the_document_is_described_and_required(checked):
    schema = validator().schema
    _, found = checked(times("naive"))
    assert set(found) == set(schema["properties"]) == set(schema["required"])
    one = schema["properties"]["verdicts"]["items"]
    assert set(found["verdicts"][0]) == set(one["properties"]) == set(one["required"])


def test_the_recipe_of_the_readme_gates(command, here):
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("## Gate a CI")[2].partition("## Design")[0]
    lines = re.findall(r"^    lstm-bench ((?:baseline|check) .*)$", section, flags=re.MULTILINE)
    keep, judge = (shlex.split(line, comments=True) for line in lines)
    runs = re.findall(r"^    lstm-bench run .* --out (\w+)", section, flags=re.MULTILINE)
    assert runs == ["base", "today"]
    save(here / "base", BASE)
    assert command(*keep)[0] == 0
    save(here / "today", [*times("naive", 1.3), *times("aten")])
    assert command(*judge)[0] == 1


def test_nothing_but_the_file_is_needed_to_check(command, here):
    save(here / "old", BASE)
    command("baseline", "save", "old", "main")
    kept = (here / "results" / "baselines" / "main.jsonl").read_bytes()
    (here / "elsewhere.jsonl").write_bytes(kept)
    assert command("check", "old", "--baseline", "elsewhere.jsonl")[0] == 0
