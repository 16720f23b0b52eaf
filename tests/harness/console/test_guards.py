"""What is said where a library is missing."""

import pytest

from lstm_harness.console.guards import libraries
from lstm_harness.model.errors import NoReportLibraries


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({}, "plotly is not installed here; pip install jinja2 plotly"),
        (
            {"lost": "no page", "packages": "junitparser", "instead": "leave out --junit"},
            "no page: plotly is not installed here; pip install junitparser, or leave out --junit",
        ),
    ],
)
def test_a_missing_library_is_named_with_what_to_do(how, says):
    with pytest.raises(NoReportLibraries) as told, libraries(**how):
        raise ModuleNotFoundError("no plotly", name="plotly")
    assert str(told.value) == says


def test_another_fault_stays_what_it_is():
    with pytest.raises(ModuleNotFoundError, match="ours"), libraries():
        raise ModuleNotFoundError("ours", name="lstm_harness.typo")
