"""The LSTM that normalises over its batch, with the statistics of each step.

Source: Cooijmans et al. 2016, "Recurrent Batch Normalization": gains start at 0.1, and what is made
of x and h has no shift except the bias. `lk.BatchNormLSTM` also keeps running statistics.
"""

from lstm_kernels.cells import batch_norm, cell
from lstm_kernels.cells.lstm_layernorm import GAINS, normalised


@cell(
    gates="i f g o",
    states="h c",
    bare="i f g o",
    per_unit=f"{GAINS} shift_c",
    starts=dict.fromkeys(GAINS.split(), 0.1) | {"shift_c": 0},
)
def lstm_batchnorm(p, h, c, *units):
    """The step of `lstm_layernorm`, with the other norm."""
    return normalised(batch_norm, p, c, *units)
