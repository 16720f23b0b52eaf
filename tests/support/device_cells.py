"""The keys of a kernel's launches for cells that differ in little, as JSON."""

import json
import sys

import torch

from lstm_kernels.backends.pointwise import forward_launch
from lstm_kernels.cells import cell
from lstm_kernels.gpu.fused_gates import device_cell


def key(constant: float, from_x: str = "") -> str:
    """That of a forward of a cell with a constant in it."""

    @cell(gates="a b", states="h", from_x=from_x)
    def changing(p, h):  # type: ignore[no-untyped-def] # a cell's
        return p.a + p.b * constant

    made = device_cell(changing)
    from_x_, from_h = (
        torch.empty(4, blocks * 16, device="meta") for blocks in (made.x_blocks, made.h_blocks)
    )
    h = torch.empty(4, 16, device="meta")
    return forward_launch(made, from_x_, from_h, h, None, None, saving=False).key("sm_90")


json.dump(
    {
        "first": key(2),
        "again": key(2),
        "other constant": key(3),
        "other blocks": key(2, from_x="b"),
    },
    sys.stdout,
)
