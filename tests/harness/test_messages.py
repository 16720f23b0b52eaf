"""Every message of the sources has the form that CONTRIBUTING.md asks for.

One line: what was found, what is expected or why, and what to type. A test can hold the form alone;
that a message is true and helps is its author's to see.
"""

import re

import messages
import plain_words
import pytest
from messages import FOR_USERS, Message

LONGEST = 250
# What a message may begin with in capitals, since it is a name.
NAMES = (
    *("ONNX", "OpenVINO", "XLA", "TF32", "CUDA", "Numba", "Parquet"),
    *("GridLSTM", "BACKENDS", "CELLS"),
)
# Of what is expected, why, or what to do: the part after the first.
SECOND_PART = re.compile(r"[;:] |\bexpected\b|\bunset\b|\bgive\b")
# Text to the reason why it has another form.
EXCEPTIONS = {
    "No module named {...}": "Python's own words, which the caller expects of an import",
    "CUDA driver: {...} ({...})": "the driver's own words",
    "{...}{...}": "a message of another place, and after it how to go on",
}

ALL = [message for message in messages.all_messages() if message.text not in EXCEPTIONS]


def test_the_catalogue_finds_them() -> None:
    assert len(ALL) > 350
    kinds = {message.kind for message in ALL}
    assert {"UserError", "MeasuringFailed", "Unsupported", "ValueError", "reason"} <= kinds


def test_every_exception_is_needed() -> None:
    assert EXCEPTIONS.keys() <= {message.text for message in messages.all_messages()}


def faults(message: Message) -> list[str]:
    """What of its form is wrong, in words."""
    text = message.text
    found = [str(each) for each in plain_words.findings(iter([message.passage]))]
    if "\n" in text:
        found.append("more than one line")
    if text.rstrip().endswith("."):
        found.append("a full stop at the end")
    if len(text) > LONGEST:
        found.append(f"{len(text)} characters; expected {LONGEST} at most")
    if text[0].isupper() and not text.startswith(NAMES):
        found.append("begins in capitals, and is no name")
    if message.kind in FOR_USERS and not SECOND_PART.search(text):
        found.append("no second part: what is expected, why, or what to do")
    return found


def test_every_message_has_the_form() -> None:
    wrong = {str(message): found for message in ALL if (found := faults(message))}
    assert not wrong, "\n".join(f"{message}\n    {found}" for message, found in wrong.items())


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("raise UserError('no run')", "no second part"),
        ("raise UserError('no run; give one.')", "a full stop"),
        ("raise UserError('No run; give one')", "begins in capitals"),
        ("raise UserError('no run;\\n give one')", "more than one line"),
        ("raise UserError(f'{a} is no run; give one')", "'is no run'"),
        (f"raise UserError('no run; {'g' * LONGEST}')", "characters; expected"),
        ("why = 'no run.'\nraise UserError(why)", "a full stop"),
        ("def f():\n    raise UserError('no run ' + 'here')", "no second part"),
        ("def f():\n    warnings.warn(f'gone {a}.')", "a full stop"),
        ("def f(): return Skip('unsupported', 'It is gone')", "begins in capitals"),
        ("def f() -> str | None:\n    'Why not.'\n    return 'It is gone'", "begins in capitals"),
    ],
)
def test_a_message_of_another_form_is_found(source: str, fault: str) -> None:
    found = [said for each in messages.messages_of(source, "m.py") for said in faults(each)]
    assert any(fault in said for said in found), found


def test_a_message_in_the_form_is_right() -> None:
    source = "raise UserError(f'unknown {a!r}; known: b')"
    (message,) = messages.messages_of(source, "m.py")
    assert message.text == "unknown {...}; known: b"
    assert not faults(message)
    assert not [*messages.messages_of("raise UserError(str(error)) from None", "m.py")]
