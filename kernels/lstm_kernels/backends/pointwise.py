"""`hoisted`, with a step's gates in one fused Triton kernel, forward and backward.

Idea: between two products a step is one kernel: it reads x W_ih^T + b_ih and h W_hh^T + b_hh,
and writes the next state and what the backward needs, instead of a kernel for every sum, sigmoid
and tanh. Source: "fusing point-wise operations" in NVIDIA's "Optimizing Recurrent Neural Networks
in cuDNN 5". Limits: CUDA, or Triton's interpreter for checking; arithmetic in float32, and of
float64 in float64; a gradient that is differentiated again is made by PyTorch's operations; ragged
lengths are masked by kernels of their own. A new T or B compiles nothing where H is a multiple of
16; where it is not, rows that start on a 16-byte boundary and rows that do not are two kernels. Not
run on a GPU yet.
"""

# Device code is not Python: Triton reads these functions' source, and types them itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import linear

from lstm_kernels.cells import CELLS
from lstm_kernels.common.gates import State, gradients_of_saved
from lstm_kernels.common.refusals import triton_limit
from lstm_kernels.common.unroll import run_directions, unroll
from lstm_kernels.gpu.fused_gates import gradients, next_state, widened
from lstm_kernels.gpu.launching import Launch
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights

# Elements of the state a program owns: B=64, H=512 then fills the 132 SMs of an H100. A guess.
TILE = 256
NUM_WARPS = 4

WHAT = "the fused gates"

# Slices of H that `saved` holds: LSTM i, f, g, o; GRU r, z, n and n's part from h.
SAVED = {"lstm": 4, "gru": 4}


@triton.jit
def _tile(B, H, BLOCK_B: tl.constexpr, BLOCK_H: tl.constexpr):
    """Rows [BLOCK_B, 1] and units [1, BLOCK_H] of this program, and which of them exist."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]
    unit = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :]
    return row, unit, (row < B) & (unit < H)


@triton.jit
def _read(tensor, at, exists):
    return widened(tl.load(tensor + at, mask=exists, other=0.0))


@triton.jit
def _write(tensor, at, value, exists):
    tl.store(tensor + at, value.to(tensor.dtype.element_ty), mask=exists)


@triton.jit(do_not_specialize=["B"])
def forward_kernel(
    from_x,  # [B, G*H]
    from_h,  # [B, G*H]
    h_before,  # [B, H], GRU alone
    c_before,  # [B, H], LSTM alone
    h,  # [B, H], written
    c,  # [B, H], written, LSTM alone
    saved,  # [B, 4*H], written where a backward follows, LSTM and GRU
    B,
    H,
    CELL: tl.constexpr,
    GATES: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """The gates of one step. All tensors are contiguous and share no memory."""
    row, unit, exists = _tile(B, H, BLOCK_B, BLOCK_H)
    gate = row * (GATES * H) + unit
    state = row * H + unit
    p0 = _read(from_x, gate, exists) + _read(from_h, gate, exists)
    p1 = p0
    p2 = p0
    p3 = p0
    hidden = p0
    memory = p0
    if CELL == "lstm":
        p1 = _read(from_x, gate + H, exists) + _read(from_h, gate + H, exists)
        p2 = _read(from_x, gate + 2 * H, exists) + _read(from_h, gate + 2 * H, exists)
        p3 = _read(from_x, gate + 3 * H, exists) + _read(from_h, gate + 3 * H, exists)
        memory = _read(c_before, state, exists)
    if CELL == "gru":
        p1 = _read(from_x, gate + H, exists) + _read(from_h, gate + H, exists)
        p2 = _read(from_x, gate + 2 * H, exists)
        p3 = _read(from_h, gate + 2 * H, exists)
        hidden = _read(h_before, state, exists)
    hidden, memory, s0, s1, s2, s3 = next_state(p0, p1, p2, p3, hidden, memory, CELL)
    _write(h, state, hidden, exists)
    if CELL == "lstm":
        _write(c, state, memory, exists)
    if saved is not None:
        at = row * (4 * H) + unit
        _write(saved, at, s0, exists)
        _write(saved, at + H, s1, exists)
        _write(saved, at + 2 * H, s2, exists)
        _write(saved, at + 3 * H, s3, exists)


@triton.jit(do_not_specialize=["B"])
def backward_kernel(
    d_h,  # [B, H]
    d_c,  # [B, H], LSTM alone
    saved,  # [B, 4*H], LSTM and GRU
    c_before,  # [B, H], LSTM alone
    c,  # [B, H], LSTM alone
    h_before,  # [B, H], GRU alone
    h,  # [B, H], plain cells alone
    d_from_x,  # [B, G*H], written
    d_from_h,  # [B, G*H], written, GRU alone: the others' is d_from_x
    d_h_before,  # [B, H], written, GRU alone: the others' h acts through its product alone
    d_c_before,  # [B, H], written, LSTM alone
    B,
    H,
    CELL: tl.constexpr,
    GATES: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """The gradients of one step's gates. All tensors are contiguous and share no memory."""
    row, unit, exists = _tile(B, H, BLOCK_B, BLOCK_H)
    gate = row * (GATES * H) + unit
    state = row * H + unit
    dh = _read(d_h, state, exists)
    dc = dh
    s0 = dh
    s1 = dh
    s2 = dh
    s3 = dh
    memory_before = dh
    memory = dh
    hidden_before = dh
    hidden = dh
    if saved is not None:
        at = row * (4 * H) + unit
        s0 = _read(saved, at, exists)
        s1 = _read(saved, at + H, exists)
        s2 = _read(saved, at + 2 * H, exists)
        s3 = _read(saved, at + 3 * H, exists)
    if CELL == "lstm":
        dc = _read(d_c, state, exists)
        memory_before = _read(c_before, state, exists)
        memory = _read(c, state, exists)
    elif CELL == "gru":
        hidden_before = _read(h_before, state, exists)
    else:
        hidden = _read(h, state, exists)
    g0, g1, g2, g3, d_carry, dc_before = gradients(
        dh, dc, s0, s1, s2, s3, memory_before, memory, hidden_before, hidden, CELL
    )
    _write(d_from_x, gate, g0, exists)
    if CELL == "lstm" or CELL == "gru":
        _write(d_from_x, gate + H, g1, exists)
        _write(d_from_x, gate + 2 * H, g2, exists)
    if CELL == "lstm":
        _write(d_from_x, gate + 3 * H, g3, exists)
        _write(d_c_before, state, dc_before, exists)
    if CELL == "gru":
        _write(d_from_h, gate, g0, exists)
        _write(d_from_h, gate + H, g1, exists)
        _write(d_from_h, gate + 2 * H, g3, exists)
        _write(d_h_before, state, d_carry, exists)


def forward_launch(
    cell: str, from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor | None, saving: bool
) -> Launch:
    """The kernel of one step, over new tensors for what it writes."""
    state = from_x.new_empty(_state_shape(cell, from_x))
    tensors = {
        "from_x": from_x,
        "from_h": from_h,
        "h_before": h if cell == "gru" else None,
        "c_before": c,
        "h": state,
        "c": None if c is None else torch.empty_like(state),
        "saved": _saved_like(state, cell) if saving and cell in SAVED else None,
    }
    return _launch(forward_kernel, cell, state, tensors, "training" if saving else "inference")


def backward_launch(
    cell: str,
    d_h: Tensor,
    d_c: Tensor | None,
    saved: Tensor | None,
    c_before: Tensor | None,
    c: Tensor | None,
    h_before: Tensor | None,
    h: Tensor | None,
) -> Launch:
    """The kernel of one step's gradients, over new tensors for what it writes."""
    B, H = d_h.shape
    d_gates = d_h.new_empty(B, CELLS[cell].x_blocks * H)
    tensors = {
        "d_h": d_h,
        "d_c": d_c,
        "saved": saved,
        "c_before": c_before,
        "c": c,
        "h_before": h_before,
        "h": h,
        "d_from_x": d_gates,
        "d_from_h": torch.empty_like(d_gates) if cell == "gru" else None,
        "d_h_before": torch.empty_like(d_h) if cell == "gru" else None,
        "d_c_before": torch.empty_like(d_h) if cell == "lstm" else None,
    }
    return _launch(backward_kernel, cell, d_h, tensors, "backward")


def _launch(
    kernel: Any, cell: str, state: Tensor, tensors: dict[str, Tensor | None], regime: str
) -> Launch:
    """Over as many programs as tiles cover the state [B, H]; the tile depends on H alone."""
    B, H = state.shape
    block_h = min(TILE, triton.next_power_of_2(H))
    block_b = TILE // block_h
    blocks = {"BLOCK_B": block_b, "BLOCK_H": block_h}
    sizes = {"B": B, "H": H, "CELL": cell, "GATES": CELLS[cell].x_blocks}
    return Launch(
        kernel,
        (triton.cdiv(B, block_b), triton.cdiv(H, block_h)),
        {**tensors, **sizes, **blocks},
        {"num_warps": NUM_WARPS},
        regime,
        blocks,
    )


def _state_shape(cell: str, from_x: Tensor) -> tuple[int, int]:
    B, rows = from_x.shape
    return B, rows // CELLS[cell].x_blocks


def _saved_like(state: Tensor, cell: str) -> Tensor:
    B, H = state.shape
    return state.new_empty(B, SAVED[cell] * H)


class _Gates(torch.autograd.Function):
    """One step's gates: from_x, from_h [B, G*H], h, c -> h, c [B, H] and the saved gates [B, 4*H].

    c and the gates are None where the cell has none. The gates are an output, so that what is saved
    of them has a graph: a second derivative needs it, and reaches them through it.
    """

    @staticmethod
    def forward(
        ctx: Any, cell: str, from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        launch = forward_launch(cell, from_x, from_h, h, c, saving=True)
        launch.run()
        written = launch.arguments
        ctx.cell = cell
        # Of the gates there is no gradient to add, but in a second derivative.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(
            written["saved"],
            c,
            written["c"],
            written["h_before"],
            None if cell in SAVED else written["h"],
        )
        return written["h"], written["c"], written["saved"]

    @staticmethod
    def backward(
        ctx: Any, d_h: Tensor | None, d_c: Tensor | None, d_saved: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        saved, c_before, c, h_before, h = ctx.saved_tensors
        state = next(t for t in (c, h_before, h) if t is not None)
        d_h = torch.zeros_like(state) if d_h is None else d_h.contiguous()
        if c is not None:
            d_c = torch.zeros_like(state) if d_c is None else d_c.contiguous()
        if torch.is_grad_enabled() or d_saved is not None:
            return None, *gradients_of_saved(
                ctx.cell, d_h, d_c, d_saved, saved, c_before, c, h_before, h
            )
        launch = backward_launch(ctx.cell, d_h, d_c, saved, c_before, c, h_before, h)
        launch.run()
        written = launch.arguments
        d_gates = written["d_from_x"]
        d_from_h = d_gates if written["d_from_h"] is None else written["d_from_h"]
        return None, d_gates, d_from_h, written["d_h_before"], written["d_c_before"]


def fused_step(cell: str, from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor | None) -> State:
    """The state after a step, before any projection; as `gates.next_state`, in one kernel."""
    tensors = [from_x, from_h, h, c]
    from_x, from_h, h = from_x.contiguous(), from_h.contiguous(), h.contiguous()
    c = None if c is None else c.contiguous()
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        h, c, _ = _Gates.apply(cell, from_x, from_h, h, c)
        return h, c
    launch = forward_launch(cell, from_x, from_h, h, c, saving=False)
    launch.run()
    return launch.arguments["h"], launch.arguments["c"]


def _one_direction(
    x: Tensor, h: Tensor, c: Tensor | None, weights: Weights, *, cell: str, alive: Tensor | None
) -> Outputs:
    w_ih, w_hh, b_ih, b_hh, w_hr, _ = weights

    def step(from_x: Tensor, h: Tensor, c: Tensor | None) -> State:
        h, c = fused_step(cell, from_x, linear(h, w_hh, b_hh), h, c)
        return (h if w_hr is None else linear(h, w_hr)), c

    return unroll(step, linear(x, w_ih, b_ih), h, c, alive)


def layer(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    weights: tuple[Weights, ...],
    *,
    problem: Problem,
    lengths: Tensor | None = None,
) -> Outputs:
    """One layer, one or both directions, as `lstm_kernels.stack` says."""
    # Triton launches on the current device, wherever the tensors lie.
    with torch.cuda.device_of(x):
        return run_directions(_one_direction, x, h0, c0, weights, problem=problem, lengths=lengths)


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    return triton_limit(problem, device, WHAT)


def launches_for(problem: Problem, arch: str) -> list[Launch]:
    """What a step launches: for inference, for a forward that saves and for a backward."""
    cell, B, H = problem.cell, problem.batch, problem.hidden_size

    def meta(columns: int) -> Tensor:
        return torch.empty(B, columns, dtype=getattr(torch, problem.dtype), device="meta")

    c = meta(H) if problem.has_cell_state else None
    gates = problem.gates * H
    forwards = [
        forward_launch(cell, meta(gates), meta(gates), meta(H), c, saving)
        for saving in (False, True)
    ]
    written = forwards[1].arguments
    backward = backward_launch(
        cell,
        meta(H),
        c,
        written["saved"],
        c,
        written["c"],
        written["h_before"],
        None if cell in SAVED else written["h"],
    )
    return [*forwards, backward]
