"""A layer under torch.autocast, as in torch.nn's recurrent modules.

Input, states and weights are cast to autocast's dtype and the layer runs in it, as with cuDNN and
oneDNN, or in float32 if its backend does not compute in that; its gradients have the dtypes of
its arguments. Results have autocast's dtype too, except
those that PyTorch's own loop on a CPU returns in the dtype of the given state:
see `_as_torch_nn`. float64 does not change, as in all of autocast.

Limits: the weights are cast at every call. So `graphed` captures a graph at every call, `triton`
if it streams copies them into its graph, and `cudnn` into its buffer. Not run on a GPU yet.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lstm_kernels.stack import Outputs, Unsupported, Weights, unflatten
from lstm_kernels.tracing import known_while_tracing

Layers = Callable[[Tensor, Tensor, Tensor | None, tuple[Weights, ...]], Outputs]


def under_autocast(
    layers: Layers,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    cell: str,
    packed: bool = False,
) -> Outputs:
    """Call `layers` on these, in autocast's dtype if autocast is on for their device.

    Args:
        packed: whether the caller's sequences are packed, which torch.nn runs differently.
    Raises:
        RuntimeError: autocast would have to cast what it never casts: float64, integers.
    """
    low = _autocast_dtype(x.device.type)
    if low is None:
        return layers(x, h0, c0, weights)
    flat = [tensor for one in weights for tensor in one]
    given = {tensor.dtype for tensor in (x, h0, c0, *flat) if tensor is not None}
    if given == {torch.float64}:
        return layers(x, h0, c0, weights)
    for dtype in given:
        if dtype is torch.float64 or not dtype.is_floating_point:
            raise RuntimeError(f"an input, state or weight is {dtype}, which autocast never casts")

    with torch.autocast(x.device.type, enabled=False):
        try:
            outputs = _cast(layers, low, x, h0, c0, flat)
        except Unsupported:
            y, h_n, c_n = _cast(layers, torch.float32, x, h0, c0, flat)
            outputs = y.to(low), h_n.to(low), None if c_n is None else c_n.to(low)
    return _as_torch_nn(
        outputs,
        cell=cell,
        state=h0.dtype if c0 is None else c0.dtype,
        projected=weights[0].w_hr is not None,
        in_loop=x.device.type == "cpu" and not (cell == "lstm" and _by_onednn(x, weights, packed)),
    )


def _cast(
    layers: Layers,
    dtype: torch.dtype,
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    flat: Sequence[Tensor | None],
) -> Outputs:
    """The result of `layers` on all these in one dtype."""
    c0 = None if c0 is None else c0.to(dtype)
    weights = unflatten([None if tensor is None else tensor.to(dtype) for tensor in flat])
    return layers(x.to(dtype), h0.to(dtype), c0, weights)


def _as_torch_nn(
    outputs: Outputs, *, cell: str, state: torch.dtype, projected: bool, in_loop: bool
) -> Outputs:
    """The results in torch.nn's dtypes.

    PyTorch's loop on a CPU uses autocast only for its products. So a sum with the state before, in
    c of an LSTM and h of a GRU, is as wide as that state; the result of a product, or of a
    plain cell, is not.
    """
    y, h_n, c_n = outputs
    wide = torch.promote_types(y.dtype, state)
    if not in_loop or cell not in ("lstm", "gru"):
        return outputs
    if not projected:
        y, h_n = y.to(wide), h_n.to(wide)
    return y, h_n, None if c_n is None else c_n.to(wide)


def _by_onednn(x: Tensor, weights: tuple[Weights, ...], packed: bool) -> bool:
    """Whether oneDNN runs torch.nn's LSTM on a CPU: `use_mkldnn` in ATen's native/RNN.cpp."""
    if packed or weights[0].w_hr is not None or not _onednn_is_there():
        return False
    if x.dtype is torch.bfloat16:
        return _onednn_has_bfloat16()
    return x.dtype is torch.float32


@known_while_tracing
def _onednn_is_there() -> bool:
    """In this PyTorch."""
    return bool(torch.backends.mkldnn.is_available())


@known_while_tracing
def _onednn_has_bfloat16() -> bool:
    """On this CPU."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _autocast_dtype(device_type: str) -> torch.dtype | None:
    """The dtype that autocast casts to on a device, or None if it is off."""
    if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return None
