"""The recipes of docs/ci.md: what they call exists, with the options and inputs that they give."""

import re
import shlex

import pytest
import typer
import yaml
from places import ROOT

from lstm_harness.cli.app import app

PAGE = (ROOT / "docs" / "ci.md").read_text()
ACTION = yaml.safe_load((ROOT / ".github" / "actions" / "ab" / "action.yml").read_text())


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def commands_of(script):
    """The lstm-bench command lines of a script, as words."""
    lines = script.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if "lstm-bench " in line]
    return [line[1 + [w.endswith("lstm-bench") for w in line].index(True) :] for line in words]


WORKFLOW, GITLAB = map(yaml.safe_load, blocks("yaml"))
SCRIPTS = [*blocks("sh"), "\n".join(GITLAB["ab"]["script"])]
COMMANDS = [command for script in SCRIPTS for command in commands_of(script)]


def test_there_are_recipes():
    assert len(SCRIPTS) == 4
    assert {command[0] for command in COMMANDS} == {"ab", "run", "check", "baseline"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_recipe_gives_options_that_the_command_has(words):
    command = typer.main.get_command(app).commands[words[0]]
    if words[0] == "baseline":
        command = command.commands[words[1]]
    known = {name for parameter in command.params for name in parameter.opts}
    given = {word for word in words if word.startswith("--")}
    assert given <= known


def test_the_workflow_gives_the_action_inputs_that_it_has_and_options_that_ab_has():
    (step,) = [s for s in WORKFLOW["jobs"]["ab"]["steps"] if s.get("id") == "ab"]
    assert step["uses"] == "./.github/actions/ab"
    assert set(step["with"]) <= set(ACTION["inputs"])
    known = {n for p in typer.main.get_command(app).commands["ab"].params for n in p.opts}
    assert {w for w in step["with"]["arguments"].split() if w.startswith("--")} <= known


def test_the_outputs_that_the_page_names_are_the_actions():
    (sentence,) = re.findall(r"Outputs: (.*?)the paths", PAGE, flags=re.DOTALL)
    named = set(re.findall(r"`([a-z-]+)`", sentence))
    assert set(ACTION["outputs"]) <= named
    verdicts = named - set(ACTION["outputs"])
    script = ACTION["runs"]["steps"][-1]["run"]
    assert verdicts == set(re.findall(r"verdict=([a-z-]+)", script))
