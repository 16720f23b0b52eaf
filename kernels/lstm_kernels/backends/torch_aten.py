"""torch.nn's recurrent functions with cuDNN off: PyTorch's own native path.

On CUDA this is a product and a fused pointwise kernel each step. On a CPU it is what PyTorch
uses there, including oneDNN for an LSTM without projection: there is no cuDNN to switch off.
PyTorch makes all of them differentiable twice. In precision `w8` it is what
`torch.ao.quantization.quantize_dynamic` replaces torch.nn.LSTM and GRU by.
Limits: a sequence without steps cannot be packed.
"""

from torch import Tensor

from lstm_kernels.common.refusals import device_limit
from lstm_kernels.common.torch_native import cudnn_enabled, packing_limit, run_native
from lstm_kernels.common.torch_quantised import quantised_limit, run_quantised
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights


def stack(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
    dropout: float = 0.0,
    training: bool = False,
    look: bool = False,
) -> Outputs:
    """All layers and directions, as `lstm_kernels.stack` says.

    Args:
        look: whether to compare weights that it keeps as int8; it keeps no others.
    """
    if problem.precision == "w8":
        return run_quantised(x, h0, c0, weights, problem=problem, lengths=lengths, look=look)
    with cudnn_enabled(False):
        return run_native(
            x, h0, c0, weights, problem=problem, lengths=lengths, dropout=dropout, training=training
        )


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    reason = device_limit(problem, device) or packing_limit(problem)
    return reason or (quantised_limit(problem, device) if problem.precision == "w8" else None)
