"""torch.nn's recurrent functions with cuDNN on and the weights in one flat buffer.

cuDNN has several algorithms, and PyTorch chooses among them by a rule of its own
(aten/src/ATen/native/cudnn/RNN.cpp), which `algorithm` restates so that a record can say what
ran. Limits: CUDA only; bfloat16 from cuDNN 9.13 and compute capability 8.0 on; a sequence without
steps cannot be packed; no second derivatives, which cuDNN's API does not have: PyTorch raises,
whatever is differentiated again. If cuDNN would not run, PyTorch silently takes its native path:
this backend refuses instead. Not run on a GPU yet.
"""

import torch
from torch import Tensor

from lstm_kernels.common.refusals import cuda_limit
from lstm_kernels.common.torch_native import cudnn_enabled, flat_weights, packing_limit, run_native
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights

STANDARD = "STANDARD"
PERSIST_STATIC = "PERSIST_STATIC"
PERSIST_STATIC_SMALL_H = "PERSIST_STATIC_SMALL_H"

# The largest H of the small-H algorithm: (forward, backward).
SMALL_H = {"lstm": (192, 128), "gru": (192, 128), "rnn_tanh": (384, 256), "rnn_relu": (384, 256)}

# Requirements of bfloat16: PyTorch's supportsBFloat16RNNWithCuDNN.
BF16_CUDNN_VERSION = 91300
BF16_CAPABILITY = (8, 0)

# torch's numbers for cuDNN's cells (torch.backends.cudnn.rnn.get_cudnn_mode).
_MODES = {"rnn_relu": 0, "rnn_tanh": 1, "lstm": 2, "gru": 3}


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
) -> Outputs:
    """All layers and directions, as `lstm_kernels.stack` says.

    Weights that own their memory are moved into one buffer on the first call, values unchanged,
    as torch.nn's `flatten_parameters` does; views are left where they are, and copied each call.
    """
    tensors = (x, h0, c0, *flat_weights(weights))
    wants_gradient = any(tensor is not None and tensor.requires_grad for tensor in tensors)
    with cudnn_enabled(True):
        flatten(weights, problem)
        return run_native(
            x,
            h0,
            c0,
            weights,
            problem=problem,
            lengths=lengths,
            dropout=dropout if training else 0.0,
            # cuDNN keeps what its backward needs only in training mode.
            training=training or (torch.is_grad_enabled() and wants_gradient),
        )


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    return (
        cuda_limit(problem, device, "cuDNN")
        or _library_limit(problem, device)
        or packing_limit(problem)
    )


def algorithm(
    problem: Problem,
    direction: str,
    *,
    capability: tuple[int, int] = (9, 0),
    multiprocessors: int = 132,
) -> str:
    """The cuDNN algorithm PyTorch's rule selects, by its name in cuDNN.

    Args:
        direction: "forward" or "backward"; they are chosen separately.
        capability, multiprocessors: the GPU's, 8.0 or newer; an H200's if not given.
    """
    if problem.proj_size or problem.lengths != "full":
        return STANDARD
    small_h = SMALL_H[problem.cell][("forward", "backward").index(direction)]
    if problem.dtype != "float64" and problem.hidden_size <= small_h:
        return PERSIST_STATIC_SMALL_H
    # The rule excludes, of the newer GPUs, 8.6 and those with few multiprocessors.
    gpu_persists = capability >= (8, 0) and capability[1] != 6 and multiprocessors >= 98
    if problem.dtype == "float16" and gpu_persists and _persists(problem):
        return PERSIST_STATIC
    return STANDARD


def kernels_used(problem: Problem) -> list[str]:
    """Evidence for a record: the algorithm of either pass, by the rule, on the current GPU."""
    if not torch.cuda.is_available():
        return []
    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    if gpu.major < 8:
        return [f"cudnn: no rule is known for compute capability {gpu.major}.{gpu.minor}"]
    chosen = {
        direction: algorithm(
            problem,
            direction,
            capability=(gpu.major, gpu.minor),
            multiprocessors=gpu.multi_processor_count,
        )
        for direction in ("forward", "backward")
    }
    return [f"cudnn {direction}: {name}" for direction, name in chosen.items()]


def flatten(weights: tuple[Weights, ...], problem: Problem) -> None:
    """Move the weights into the one buffer cuDNN reads, unless they are there or are views."""
    tensors = flat_weights(weights)
    if len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1:
        return
    if any(not tensor.is_leaf or tensor._is_view() for tensor in tensors):
        return
    with torch.no_grad(), torch.cuda.device(tensors[0].device):
        torch._cudnn_rnn_flatten_weight(
            tensors,
            len(tensors) // len(weights),
            problem.input_size,
            _MODES[problem.cell],
            problem.hidden_size,
            problem.proj_size,
            problem.num_layers,
            False,  # batch_first
            problem.bidirectional,
        )


def _persists(problem: Problem) -> bool:
    """The part of the rule for PERSIST_STATIC that the shape decides."""
    H, B = problem.hidden_size, problem.batch
    one_layer = problem.num_layers == 1 and not problem.bidirectional
    aligned = H <= 1024 and H % 128 == 0 and problem.input_size % 128 == 0
    if not (one_layer and aligned and B % 8 == 0 and B <= 128) or problem.cell == "gru":
        return False
    return problem.cell == "lstm" or B < 96 or H < 896


def _library_limit(problem: Problem, device: str) -> str | None:
    """Why the cuDNN that is installed would not run this, or None."""
    version = torch.backends.cudnn.version()
    if version is None:
        return "this build of torch has no cuDNN"
    if problem.dtype != "bfloat16":
        return None
    if version < BF16_CUDNN_VERSION:
        return f"bfloat16 needs cuDNN {BF16_CUDNN_VERSION}, and this is {version}"
    capability = torch.cuda.get_device_capability(device)
    if capability < BF16_CAPABILITY:
        major, minor = capability
        return f"bfloat16 needs compute capability 8.0, and this GPU has {major}.{minor}"
    return None
