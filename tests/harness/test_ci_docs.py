"""The recipes of docs/ci.md: what they give to the action, and to a script in YAML, exists."""

import re
import shlex

import pytest
import yaml
from pages import blocks, commands, parsed, text_of
from places import ROOT

PAGE = "docs/ci.md"
ACTION = yaml.safe_load((ROOT / ".github" / "actions" / "ab" / "action.yml").read_text())
WORKFLOW, GITLAB, OF_A_PLUGIN = map(yaml.safe_load, blocks(PAGE, "yaml"))
SCRIPT = [shlex.split(line) for line in GITLAB["ab"]["script"] if "lstm-bench" in line]


def test_there_are_recipes():
    told = {words[0] for words in commands(PAGE, "lstm-bench")}
    assert {"ab", "run", "check", "baseline", "selftest", "verify"} <= told
    assert len(SCRIPT) == 1


@pytest.mark.parametrize("words", SCRIPT, ids=" ".join)
def test_the_script_in_yaml_gives_options_that_the_command_has(words):
    assert parsed(words[1:]).params["threads"] == 1


@pytest.mark.parametrize(
    ("workflow", "uses", "plugins"),
    [
        (WORKFLOW, "./.github/actions/ab", []),
        (OF_A_PLUGIN, "OWNER/lstm-bench/.github/actions/ab@main", ["my_lstm.py"]),
    ],
    ids=["kernels", "plugin"],
)
def test_a_workflow_gives_the_action_inputs_that_it_has_and_options_that_ab_has(
    workflow, uses, plugins
):
    (step,) = [s for s in workflow["jobs"]["ab"]["steps"] if s.get("id") == "ab"]
    assert step["uses"] == uses
    assert set(step["with"]) <= set(ACTION["inputs"])
    asked = parsed(["ab", "main", *step["with"]["arguments"].split()]).params
    assert asked["threads"] == 1
    assert (asked["plugin"] or []) == plugins


def test_the_outputs_that_the_page_names_are_the_actions():
    (sentence,) = re.findall(r"Outputs: (.*?)the paths", text_of(PAGE), flags=re.DOTALL)
    named = set(re.findall(r"`([a-z-]+)`", sentence))
    assert set(ACTION["outputs"]) <= named
    verdicts = named - set(ACTION["outputs"])
    script = ACTION["runs"]["steps"][-1]["run"]
    assert verdicts == set(re.findall(r"verdict=([a-z-]+)", script))
