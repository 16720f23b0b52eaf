"""Interchangeable recurrent layers: `lk.LSTM(..., backend="naive")` and friends.

Names that need torch are imported on first use, so that problems and the list of backends can be
read without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lstm_kernels.cells import CELLS
from lstm_kernels.problem import DTYPE_BYTES, PASSES, PRECISIONS, Problem
from lstm_kernels.registry import Backend
from lstm_kernels.registry import backends as _backends

if TYPE_CHECKING:
    from lstm_kernels.any_cell import Recurrent
    from lstm_kernels.batch_norm_lstm import BatchNormLSTM
    from lstm_kernels.functional import gru, lstm, recurrent, rnn_relu, rnn_tanh
    from lstm_kernels.grid_lstm import GridLSTM
    from lstm_kernels.modules import GRU, LSTM, RNN
    from lstm_kernels.stack import Unsupported, Weights

__all__ = [
    "CELLS",
    "DTYPE_BYTES",
    "GRU",
    "LSTM",
    "PASSES",
    "PRECISIONS",
    "RNN",
    "Backend",
    "BatchNormLSTM",
    "GridLSTM",
    "Problem",
    "Recurrent",
    "Unsupported",
    "Weights",
    "backends",
    "gru",
    "lstm",
    "recurrent",
    "rnn_relu",
    "rnn_tanh",
]

_HOME = {
    "LSTM": "modules",
    "GRU": "modules",
    "RNN": "modules",
    "Recurrent": "any_cell",
    "BatchNormLSTM": "batch_norm_lstm",
    "GridLSTM": "grid_lstm",
    "lstm": "functional",
    "gru": "functional",
    "recurrent": "functional",
    "rnn_tanh": "functional",
    "rnn_relu": "functional",
    "Unsupported": "stack",
    "Weights": "stack",
}

# The folder `backends` would take the function's name when its first module is imported: so it
# is imported before the name is given.
import_module("lstm_kernels.backends")
backends = _backends


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lstm_kernels' has no attribute {name!r}")
    return getattr(import_module(f"lstm_kernels.{_HOME[name]}"), name)
