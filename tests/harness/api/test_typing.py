"""A strict type checker finds nothing in a program that uses us well, and every mistake."""

import json
import subprocess
import sys

import pytest
from bench import ROOTS
from places import SUPPORT

CLIENT = SUPPORT / "typed_client.py"
MISTAKES = {
    "lb.run(hiden=64)": "reportCallIssue",
    "lb.run(hidden=2.5)": "reportArgumentType",
    "lb.run(passes=3)": "reportArgumentType",
    "lb.load('x').sumary.empty": "reportAttributeAccessIssue",
    "lb.load('x').report().path.upper()": "reportAttributeAccessIssue",
    "lb.laod('x')": "reportAttributeAccessIssue",
}


@pytest.fixture
def rules(tmp_path):
    """The rules that a program breaks, by pyright's strict ones, with the lines that do."""
    pytest.importorskip("basedpyright")

    def check(program):
        settings = {"include": [str(program)], "typeCheckingMode": "strict", "extraPaths": ROOTS}
        file = tmp_path / "pyrightconfig.json"
        file.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "basedpyright", "--outputjson", "-p", str(file)]
        command += ["--pythonpath", sys.executable]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        told = json.loads(done.stdout)
        assert told["summary"]["filesAnalyzed"] == 1, done.stdout + done.stderr
        return [
            (each["rule"], each["range"]["start"]["line"]) for each in told["generalDiagnostics"]
        ]

    return check


def test_a_program_that_uses_us_well_passes_strictly(rules):
    assert rules(CLIENT) == []


def test_every_mistake_is_found(rules, tmp_path):
    program = tmp_path / "mistaken.py"
    program.write_text("\n".join(["import lstm_harness as lb", *MISTAKES]))
    assert set(enumerate(MISTAKES.values(), 1)) <= {(line, rule) for rule, line in rules(program)}
