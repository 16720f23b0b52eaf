"""What docs/gradients.md says comes of its command, found again."""

import json
import re
import shlex

import pytest
from places import ROOT

TEXT = (ROOT / "docs" / "gradients.md").read_text()


@pytest.fixture(scope="module")
def found(tmp_path_factory, bench_in):
    """The lines of what the page's last command finds, by name."""
    folder = tmp_path_factory.mktemp("docs")
    (plugin,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    (folder / "remembers.py").write_text(plugin)
    command = re.findall(r"^    lstm-bench (.*)$", TEXT, flags=re.MULTILINE)[-1]
    done = bench_in(shlex.join([*command.split(), "--threads", "1", "--json", "--quiet"]), folder)
    assert done.returncode == 0, done.stderr
    return {line["name"]: line for line in json.loads(done.stdout)["lines"]}


def test_the_table_is_what_the_command_says(found):
    header, *rows = re.findall(r"^\| (.*) \|$", TEXT, flags=re.MULTILINE)
    steps = [int(step) for step in header.split(" | ")[1:-1]]
    assert steps[-1] == found["lstm"]["problem"]["seq_len"]
    assert len(rows) == len(found) == 4
    for row in rows:
        name, *shares, half_life = row.split(" | ")
        line = found[name.strip("`")]
        # Written with two digits: half a unit in the second.
        assert [float(share) for share in shares] == [
            pytest.approx(line["median"][step], rel=0.051) for step in steps
        ]
        assert float(half_life) == pytest.approx(line["half_life_steps"], rel=0.051)


def test_the_lstm_loses_half_a_step_and_the_one_that_remembers_does_not(found):
    assert found["lstm"]["half_life_steps"] < 2
    assert found["remembers"]["low"][50] > 1e9 * found["lstm"]["high"][50]
