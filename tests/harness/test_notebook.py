"""docs/notebook.ipynb, run as a reader runs it: every cell works, and shows what it says."""

import json

import pytest
from bench import environment
from places import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]


def test_it_is_committed_as_written_without_what_a_machine_showed():
    for cell in CELLS:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The cells after they ran, by their code."""
    nbclient, nbformat = map(pytest.importorskip, ("nbclient", "nbformat"))
    pytest.importorskip("ipykernel")
    folder = tmp_path_factory.mktemp("notebook")
    env = environment(folder)
    env |= {name: str(folder / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR")}
    read = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(folder)}}
    patience = dict.fromkeys(("timeout", "iopub_timeout", "startup_timeout"), 600)
    client = nbclient.NotebookClient(read, kernel_name="python3", resources=place, **patience)
    client.execute(env=env)
    return {cell.source: cell.outputs for cell in read.cells if cell.cell_type == "code"}


def outputs_of(executed, words):
    (found,) = [outputs for code, outputs in executed.items() if words in code]
    return found


def html_of(outputs):
    (found,) = [
        output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})
    ]
    return found


@pytest.mark.slow
def test_every_cell_shows_what_it_says(executed):
    race = outputs_of(executed, "race = lb.run")
    assert "<td>aten</td>" in html_of(race) or "<td>hoisted</td>" in html_of(race)
    # The bar is cleared when the run ends.
    assert {
        output.data["text/plain"] for output in race if output.output_type == "display_data"
    } == {""}
    assert "margin_low" in html_of(outputs_of(executed, "race.fastest"))
    assert "tolerance" in html_of(outputs_of(executed, "race.summary"))
    assert "<th>count</th>" in html_of(outputs_of(executed, "race.records"))
    assert "<th>verdict</th>" in html_of(outputs_of(executed, "again.compare"))
    assert "<iframe srcdoc=" in html_of(outputs_of(executed, "race.report"))
    (mistake,) = outputs_of(executed, "quik")
    assert mistake.text.startswith("unknown suite 'quik'; did you mean 'quick'?")


@pytest.mark.slow
def test_nothing_is_said_on_stderr(executed):
    for outputs in executed.values():
        assert [output.text for output in outputs if output.get("name") == "stderr"] == []
