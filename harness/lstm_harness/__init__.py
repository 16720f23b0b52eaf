"""The race: spec -> plan -> measure -> store -> analyse -> report.

From Python, `run` does what `lstm-bench run` does, and `load` reads a run on disk:

    import lstm_harness as lb
    race = lb.run(backend=["naive", "aten"], hidden=64, batch=[1, 8], time_budget=10)
    race.fastest

The names are imported on first use, so that the command line stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["MeasuringFailed", "Report", "Run", "UserError", "load", "run"]

__version__ = "0.3.0"

if TYPE_CHECKING:
    from lstm_harness.api import MeasuringFailed, Report, Run, UserError, load, run
else:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'lstm_harness' has no attribute {name!r}")
        return getattr(import_module("lstm_harness.api"), name)
