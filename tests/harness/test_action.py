"""The GitHub Action's own script, run by bash with a stand-in for lstm-bench."""

import subprocess
from pathlib import Path

import pytest
import yaml
from places import ROOT

ACTION = ROOT / ".github" / "actions" / "ab" / "action.yml"
WORKFLOW = ROOT / ".github" / "workflows" / "ab.yml"
STAND_IN = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$RUNNER_TEMP/arguments"
while [ $# -gt 0 ]; do
    case "$1" in
        --markdown) WRITES && echo "### lstm-bench: HEADLINE" > "$2" ;;
        --junit | --html) WRITES && touch "$2" ;;
    esac
    shift
done
echo "what went wrong" >&2
exit STATUS
"""


@pytest.fixture
def judge(tmp_path):
    """Run the action's last step where lstm-bench ends with a status."""
    script = yaml.safe_load(ACTION.read_text())["runs"]["steps"][-1]["run"]
    program = tmp_path / "bin" / "lstm-bench"
    program.parent.mkdir()

    def go(status, headline="Regression", writes=True, **inputs):
        said = {"STATUS": str(status), "HEADLINE": headline, "WRITES": str(writes).lower()}
        text = STAND_IN
        for name, value in said.items():
            text = text.replace(name, value)
        program.write_text(text)
        program.chmod(0o755)
        given = {"BASE": "main", "SUITE": "", "MARGIN": "0.05", "DEVICE": "cpu", "ARGUMENTS": ""}
        given |= {"INCONCLUSIVE": "fail"}
        files = {"GITHUB_OUTPUT": "output", "GITHUB_STEP_SUMMARY": "summary", "RUNNER_TEMP": ""}
        places = {name: str(tmp_path / place) for name, place in files.items()}
        path = {"PATH": f"{program.parent}:/usr/bin:/bin"}
        # As GitHub starts a step whose shell is bash.
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
        done = subprocess.run(command, env=given | inputs | places | path, check=False)
        files = [tmp_path / name for name in ("output", "arguments", "summary")]
        told, arguments, summary = (file.read_text() for file in files)
        for file in files:
            file.unlink()
        output = dict(line.split("=") for line in told.splitlines())
        return done.returncode, output, arguments.splitlines(), summary

    return go


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0, "passed"),
        (1, "regression"),
        (3, "inconclusive"),
        (4, "incorrect"),
        (5, "not-comparable"),
        (6, "failed"),
    ],
)
def test_step_ends_as_the_command_did_and_names_the_verdict(judge, status, verdict):
    code, output, _, summary = judge(status)
    assert code == status
    assert output["verdict"] == verdict
    assert Path(output["report"]).name == "verdicts.html"
    assert Path(output["junit"]).is_file()
    assert summary == "### lstm-bench: Regression\n"


@pytest.mark.parametrize(("status", "ends"), [(3, 0), (0, 0), (1, 1), (4, 4), (6, 6)])
def test_what_could_not_be_told_alone_may_pass_and_is_named(judge, status, ends):
    code, output, _, _ = judge(status, INCONCLUSIVE="pass")
    assert code == ends
    assert (output["verdict"] == "inconclusive") == (status == 3)


def test_another_way_to_take_what_could_not_be_told_is_refused(judge, tmp_path, capfd):
    for name in ("output", "arguments", "summary"):
        (tmp_path / name).touch()
    assert judge(0, INCONCLUSIVE="maybe")[0] == 2
    assert "inconclusive: maybe; expected fail or pass" in capfd.readouterr().err


def test_each_use_has_outputs_of_its_own(judge):
    first, second = judge(0)[1], judge(0)[1]
    assert first["report"] != second["report"]


def test_what_went_wrong_is_in_the_summary_and_no_path_is_told(judge):
    code, output, _, summary = judge(6, writes=False)
    assert (code, output) == (6, {"verdict": "failed"})
    assert "what went wrong" in summary


def test_inputs_reach_the_command(judge):
    more = "--backend naive,aten --blocks 5"
    _, _, arguments, _ = judge(0, BASE="v1", SUITE="quick", MARGIN="0.1", ARGUMENTS=more)
    assert arguments[:2] == ["ab", "v1"]
    assert arguments[-6:] == [*more.split(), "--suite", "quick"]
    assert arguments[arguments.index("--margin") + 1] == "0.1"


def test_input_cannot_run_a_command(judge, tmp_path):
    judge(0, ARGUMENTS="$(touch hacked); touch hacked", BASE="`touch hacked`")
    assert not list(tmp_path.rglob("hacked"))


@pytest.mark.parametrize("is_ours", [True, False], ids=["lstm-bench", "a plugin's repository"])
def test_it_installs_what_is_checked_out_or_else_what_it_is_part_of(tmp_path, is_ours):
    """With a stand-in for python, which tells what it was given."""
    place = tmp_path / "a folder" / "lstm-bench"
    action = place / ACTION.parent.relative_to(ROOT)
    kernels = tmp_path / "checked out" / "kernels" / "lstm_kernels"
    for folder in (action, kernels, tmp_path / "bin"):
        folder.mkdir(parents=True)
    if is_ours:
        (kernels / "__init__.py").touch()
    program = tmp_path / "bin" / "python"
    program.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@" "$PIP_CONSTRAINT"\n')
    program.chmod(0o755)
    script = yaml.safe_load(ACTION.read_text())["runs"]["steps"][0]["run"]
    given = {"PATH": f"{program.parent}:/usr/bin:/bin", "GITHUB_ACTION_PATH": str(action)}
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
    checkout = kernels.parents[1]
    done = subprocess.run(
        command, env=given, cwd=checkout, capture_output=True, text=True, check=True
    )
    *_, installed, constraints = done.stdout.splitlines()
    source = checkout if is_ours else place
    assert (checkout / installed.removesuffix("[cuda]")).resolve() == source
    assert (checkout / constraints).resolve() == source / "constraints.txt"


def test_our_workflow_gives_the_action_inputs_that_it_has():
    known = yaml.safe_load(ACTION.read_text())["inputs"]
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["ab"]["steps"]
    (step,) = [step for step in steps if step.get("id") == "ab"]
    assert step["uses"] == "./" + str(ACTION.parent.relative_to(ROOT))
    assert set(step["with"]) <= set(known)
    assert {name for name, each in known.items() if each.get("required")} <= set(step["with"])
