"""The glossary's words to avoid are those that the tests find."""

import re

from pages import text_of
from plain_words import AVOIDED


def test_the_words_to_avoid_are_those_of_the_list():
    table = text_of("docs/glossary.md").partition("| instead of | say |\n|---|---|\n")[2]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    listed = [(re.findall("`([^`]+)`", words), instead) for words, instead in rows]
    assert listed == [(each.shown.split(", "), each.instead) for each in AVOIDED]
