"""The Python interface: `lstm-bench run`, `report` and `compare`, for programs and notebooks."""

from lstm_harness.api.race import load, run
from lstm_harness.api.results import Report, Run
from lstm_harness.model.errors import MeasuringFailed, UserError

__all__ = ["MeasuringFailed", "Report", "Run", "UserError", "load", "run"]
