"""The demo of the README shows what a terminal shows, and fetches nothing."""

import re
import shlex

import demo
import pytest
from pages import parsed, text_of
from places import ROOT

PICTURE = ROOT / "docs" / "demo.svg"


def words_of(svg: str) -> str:
    return re.sub(r"<[^>]*>|&#160;|\s", " ", svg)


def test_a_picture_has_the_command_and_what_it_says(tmp_path):
    made = demo.picture(("lstm-bench suites quick",), tmp_path, "a machine")
    for shown in ("a machine", "lstm-bench suites quick", "Three minutes on two CPU cores"):
        assert " ".join(shown.split()) in " ".join(words_of(made).split())


def test_a_command_that_fails_makes_no_picture(tmp_path):
    with pytest.raises(SystemExit, match="exit code 2"):
        demo.picture(("lstm-bench suites quikc",), tmp_path, "a machine")


def test_the_picture_in_the_readme_fetches_nothing():
    assert "url(http" not in PICTURE.read_text()
    assert "docs/demo.svg" in text_of("README.md")


@pytest.mark.parametrize("command", demo.COMMANDS)
def test_a_command_of_the_demo_parses_and_is_in_the_picture(command):
    assert parsed(shlex.split(command)[1:]) is not None
    assert command.split("--")[0] in " ".join(words_of(PICTURE.read_text()).split())
