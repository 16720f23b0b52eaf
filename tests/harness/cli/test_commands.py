"""What every command has: help under two names, examples that parse, switches; and the version."""

import shlex

import pytest
import typer

from lstm_harness import __version__
from lstm_harness.cli import options
from lstm_harness.cli.app import app
from lstm_harness.cli.commands import valued
from lstm_harness.cli.examples import EXAMPLES
from lstm_harness.model.errors import Exit

ROOT = typer.main.get_command(app)


def every(group=ROOT, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(every())
# What these tell is a path, alone on a line, or what a program that they start prints.
NO_DOCUMENT = {"capture", "report", "view", "merge", "publish", "export", "import", "baseline save"}


def parsed(line):
    """The command of an example, and what its options say."""
    program, *words = shlex.split(line)
    assert program == "lstm-bench"
    context, command = ROOT.make_context(program, [*words], resilient_parsing=True), ROOT
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    return command, command.make_context(command.name, [*words], parent=context).params


def test_every_command_has_examples_in_its_help_and_no_other_has():
    assert COMMANDS.keys() == EXAMPLES.keys()
    for name, command in COMMANDS.items():
        assert all(line in command.epilog for line in EXAMPLES[name])


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_every_example_parses(line):
    command, given = parsed(line)
    assert line in EXAMPLES[next(name for name, each in COMMANDS.items() if each is command)]
    shared = {name: given.get(name) for name in options._OPTIONS}
    suite = shared["suite"]
    if suite and suite.endswith(".toml"):  # one that the reader has
        shared["suite"] = None
    options.spec_of(**shared)


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_the_help_of_all(command, words):
    code, out, err = command(*words)
    assert (code, err) == (Exit.DONE, "")
    for name in COMMANDS:
        assert name.split()[0] in out
    assert "--install-completion" in out


def test_a_group_alone_shows_its_help(command):
    code, out, err = command("baseline")
    assert (code, err) == (Exit.DONE, "")
    assert "save" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_one_under_both_names(command, name):
    long, short = command(*name.split(), "--help"), command(*name.split(), "-h")
    assert long == short
    assert long[0] == Exit.DONE
    assert "Examples:" in long[1]


def test_the_version(command):
    assert command("--version") == (Exit.DONE, f"lstm-bench {__version__}\n", "")


def test_a_shell_is_told_how_to_complete_a_line(command, monkeypatch):
    monkeypatch.setenv("_LSTM_BENCH_COMPLETE", "complete_bash")
    for words, found in (("base", ["baseline"]), ("run qui", ["quick"])):
        monkeypatch.setenv("COMP_WORDS", f"lstm-bench {words}")
        monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
        code, out, _ = command()
        assert (code, out.split()) == (Exit.DONE, found)


@pytest.mark.parametrize("name", COMMANDS)
def test_whatever_tells_something_tells_it_as_json(name):
    flags = {flag for parameter in COMMANDS[name].params for flag in parameter.opts}
    assert ("--json" in flags) == (name not in NO_DOCUMENT)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("--bidirectional", [True]),
        ("--no-bidirectional", [False]),
        ("--bidirectional true,false", [True, False]),
        ("--bidirectional=false", [False]),
        ("--bidirectional quick", None),
        ("--bidirectional --hidden 8", [True]),
        ("--no-bias", None),
    ],
)
def test_an_axis_that_is_on_or_off_needs_no_value(document, given, found):
    made = document("plan", *shlex.split(given), "--backend", "aten", "--json")
    problems = [each["problem"] for each in made["cases"]]
    if given == "--no-bias":
        assert {problem["bias"] for problem in problems} == {False}
    elif found is None:  # quick is the suite
        assert len(problems) > 1
        assert {problem["bidirectional"] for problem in problems} == {True}
    else:
        assert list(dict.fromkeys(problem["bidirectional"] for problem in problems)) == found


def test_what_a_program_is_given_is_its_own():
    _, given = parsed("lstm-bench capture -- python train.py --bias")
    assert given["program"] == ["python", "train.py", "--bias"]
    (bias,) = [p for p in COMMANDS["plan"].params if "--bias" in p.opts]
    assert valued(["--bias", "--", "--bias"], [bias]) == ["--bias=true", "--", "--bias"]


def test_the_projection_has_the_name_that_torch_gives_it(document, refused):
    for flag in ("--proj-size", "--proj"):
        made = document("plan", flag, "32", "--hidden", "64", "--backend", "aten", "--json")
        assert {each["problem"]["proj_size"] for each in made["cases"]} == {32}
    assert "--proj-size 'x'" in refused("plan", "--proj", "x")


def test_whoever_the_others_are_compared_with_must_be_measured(refused):
    line = refused("run", "--backend", "aten", "--against", "naive")
    assert "--against naive is not raced; type --backend aten,naive" in line
