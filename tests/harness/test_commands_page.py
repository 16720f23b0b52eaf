"""The page of the commands is what their help says now."""

import commands_page
import pytest
import typer
from places import ROOT

from lstm_harness.cli.app import app

PAGE = ROOT / "docs" / "commands.md"


def test_the_page_is_what_the_help_says():
    assert PAGE.read_text() == commands_page.page(), "run `make commands-page`"


@pytest.mark.parametrize("name", ["run", "check", "ab", "capture", "baseline save"])
def test_a_command_has_a_section_with_its_own_options(name):
    section = PAGE.read_text().split(f"\n## lstm-bench {name}\n")[1].split("\n## ")[0]
    command = typer.main.get_command(app)
    for word in name.split():
        command = command.commands[word]
    flags = [flag for parameter in command.params for flag in parameter.opts if flag[:2] == "--"]
    assert flags
    assert [flag for flag in flags if flag not in section] == []


def test_an_argument_that_repeats_has_its_dots_once():
    usages = [line for line in commands_page.page().splitlines() if line.startswith("Usage: ")]
    assert any(usage.endswith("{RUN}...`") for usage in usages)
    assert [usage for usage in usages if "...}" in usage or "...]" in usage] == []
