"""`hoisted`, with a step's gates in one fused Triton kernel, forward and backward.

Idea: between two products a step is one kernel: it reads x W_ih^T + b_ih and h W_hh^T + b_hh,
and writes the next state and what the backward needs, instead of a kernel for every sum, sigmoid
and tanh; of any cell, from its definition. Source: "fusing point-wise operations" in NVIDIA's
"Optimizing Recurrent Neural Networks in cuDNN 5". Limits: CUDA, or Triton's interpreter for
checking; arithmetic in float32, and of float64 in float64; second derivatives without a kernel;
ragged lengths are masked by separate kernels. A new T or B compiles nothing if H is a
multiple of 16; otherwise rows that start on a 16-byte boundary and rows that do not need two
kernels. Not run on a GPU yet.
"""

# Device code is not Python: Triton reads these functions' source, and types them itself.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# mypy: disable-error-code="assignment, misc, var-annotated"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from lstm_kernels.cells import CELLS, Cell
from lstm_kernels.common.gates import State, product
from lstm_kernels.common.refusals import triton_limit
from lstm_kernels.common.second_derivatives import Recorded
from lstm_kernels.common.unroll import run_directions, unroll
from lstm_kernels.gpu.fused_gates import TRITON, DeviceCell, device_cell, widened
from lstm_kernels.gpu.launching import Launch
from lstm_kernels.problem import Problem
from lstm_kernels.stack import Outputs, Weights, unflatten

# Elements of the state a program owns: B=64, H=512 then fills the 132 SMs of an H100. A guess.
TILE = 256
NUM_WARPS = 4

WHAT = "the fused gates"

# The dialect of `inspect --source`.
DIALECT = TRITON


@triton.jit
def _tile(B, H, BLOCK_B: tl.constexpr, BLOCK_H: tl.constexpr):
    """Rows [BLOCK_B, 1] and units [1, BLOCK_H] of this program, and which of them exist."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)[:, None]
    unit = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :]
    return row, unit, (row < B) & (unit < H)


@triton.jit
def _read(tensor, at, exists, absent=0.0):
    return widened(tl.load(tensor + at, mask=exists, other=absent))


@triton.jit
def _write(tensor, at, value, exists):
    tl.store(tensor + at, value.to(tensor.dtype.element_ty), mask=exists)


@triton.jit
def _read_blocks(tensor, at, exists, H, COUNT: tl.constexpr):
    """So many blocks of H, side by side in each row."""
    values = ()
    for block in tl.static_range(0, COUNT):
        values = values + (_read(tensor, at + block * H, exists),)
    return values


@triton.jit
def _read_states(h, c, state, own, exists, other, H, CELL: tl.constexpr, WHO: tl.constexpr):
    """The states that WHO of `CELL.uses` looks at, `other` in the place of each other one."""
    OWN: tl.constexpr = CELL.states - 1
    states = (_read(h, state, exists) if CELL.uses[WHO][0] else other,)
    for at in tl.static_range(0, OWN):
        found = other
        if CELL.uses[WHO][at + 1]:
            found = _read(c, own + at * H, exists, CELL.absent[at + 1])
        states = states + (found,)
    return states


@triton.jit
def _read_units(per_unit, unit, like, H, COUNT: tl.constexpr):
    """Parameters of each unit, one for every row."""
    values = ()
    for at in tl.static_range(0, COUNT):
        value = widened(tl.load(per_unit + at * H + unit, mask=unit < H, other=0.0))
        values = values + (value + tl.zeros_like(like),)
    return values


@triton.jit(do_not_specialize=["B"])
def forward_kernel(
    from_x,  # [B, G*H]
    from_h,  # [B, Gh*H], or None where h is not multiplied
    h_before,  # [B, H], and the next, as far as the cell's step looks at them
    c_before,  # [B, K*H]
    per_unit,  # [U*H], or None where U is 0
    h,  # [B, H], written
    c,  # [B, K*H], written, or None where K is 0
    saved,  # [B, S*H], written, or None where no backward follows or nothing is saved
    B,
    H,
    CELL: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """The gates of one step. All tensors are contiguous and share no memory."""
    SLOTS: tl.constexpr = CELL.slots
    OWN: tl.constexpr = CELL.states - 1
    SAVED: tl.constexpr = CELL.saved
    row, unit, exists = _tile(B, H, BLOCK_B, BLOCK_H)
    x_row = row * (CELL.x_blocks * H) + unit
    h_row = row * (CELL.h_blocks * H) + unit
    state = row * H + unit
    own = row * (OWN * H) + unit
    p = ()
    for slot in tl.static_range(0, SLOTS):
        if CELL.h_block[slot] is None:
            part = _read(from_x, x_row + CELL.x_block[slot] * H, exists)
        elif CELL.x_block[slot] is None:
            part = _read(from_h, h_row + CELL.h_block[slot] * H, exists)
        else:
            part = _read(from_x, x_row + CELL.x_block[slot] * H, exists)
            part += _read(from_h, h_row + CELL.h_block[slot] * H, exists)
        p = p + (part,)
    before = _read_states(h_before, c_before, state, own, exists, p[0], H, CELL, 0)
    units = _read_units(per_unit, unit, p[0], H, CELL.per_unit)
    after, kept = CELL.next_state(p, before, units)
    _write(h, state, after[0], exists)
    for at in tl.static_range(0, OWN):
        _write(c, own + at * H, after[at + 1], exists)
    if saved is not None:
        for at in tl.static_range(0, SAVED):
            _write(saved, row * (SAVED * H) + unit + at * H, kept[at], exists)


@triton.jit(do_not_specialize=["B"])
def backward_kernel(
    d_h,  # [B, H]
    d_c,  # [B, K*H], or None where K is 0
    saved,  # [B, S*H], or None where S is 0
    h_before,  # [B, H], this and the next three as far as the cell's gradients look at them
    c_before,  # [B, K*H]
    h,  # [B, H]
    c,  # [B, K*H]
    per_unit,  # [U*H], or None where U is 0
    d_from_x,  # [B, G*H], written
    d_from_h,  # [B, Gh*H], written, or None where it is d_from_x or there is none
    d_h_before,  # [B, H], written, or None where h acts through its product alone
    d_c_before,  # [B, K*H], written, or None where K is 0
    d_per_unit,  # [B, U*H], written, or None where U is 0: each sequence's own part
    B,
    H,
    CELL: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """The gradients of one step's gates. All tensors are contiguous and share no memory."""
    SLOTS: tl.constexpr = CELL.slots
    OWN: tl.constexpr = CELL.states - 1
    SAVED: tl.constexpr = CELL.saved
    UNITS: tl.constexpr = CELL.per_unit
    row, unit, exists = _tile(B, H, BLOCK_B, BLOCK_H)
    state = row * H + unit
    own = row * (OWN * H) + unit
    d_after = (_read(d_h, state, exists),) + _read_blocks(d_c, own, exists, H, OWN)
    like = d_after[0]
    kept = _read_blocks(saved, row * (SAVED * H) + unit, exists, H, SAVED)
    before = _read_states(h_before, c_before, state, own, exists, like, H, CELL, 1)
    after = _read_states(h, c, state, own, exists, like, H, CELL, 2)
    units = _read_units(per_unit, unit, like, H, UNITS)
    d_p, d_before, d_units = CELL.gradients(d_after, kept, before, after, units)
    x_row = row * (CELL.x_blocks * H) + unit
    h_row = row * (CELL.h_blocks * H) + unit
    for slot in tl.static_range(0, SLOTS):
        if CELL.x_block[slot] is not None:
            _write(d_from_x, x_row + CELL.x_block[slot] * H, d_p[slot], exists)
        if d_from_h is not None and CELL.h_block[slot] is not None:
            _write(d_from_h, h_row + CELL.h_block[slot] * H, d_p[slot], exists)
    if d_h_before is not None:
        _write(d_h_before, state, d_before[0], exists)
    for at in tl.static_range(0, OWN):
        _write(d_c_before, own + at * H, d_before[at + 1], exists)
    for at in tl.static_range(0, UNITS):
        _write(d_per_unit, row * (UNITS * H) + unit + at * H, d_units[at], exists)


def forward_launch(
    cell: DeviceCell,
    from_x: Tensor,
    from_h: Tensor | None,
    h: Tensor,
    c: Tensor | None,
    per_unit: Tensor | None,
    saving: bool,
) -> Launch:
    """The kernel of one step, over new tensors for what it writes."""
    B, H = len(from_x), from_x.shape[1] // cell.x_blocks
    h_before, c_before = _looked_at(cell.steps_with, (h, c))
    state = from_x.new_empty(B, H)
    tensors = {
        "from_x": from_x,
        "from_h": from_h,
        "h_before": h_before,
        "c_before": c_before,
        "per_unit": per_unit,
        "h": state,
        "c": None if c is None else torch.empty_like(c),
        "saved": state.new_empty(B, cell.saved * H) if saving and cell.saved else None,
    }
    return _launch(forward_kernel, cell, state, tensors, "training" if saving else "inference")


def backward_launch(
    cell: DeviceCell,
    d_h: Tensor,
    d_c: Tensor | None,
    saved: Tensor | None,
    before: State,
    after: State,
    per_unit: Tensor | None,
) -> Launch:
    """The kernel of one step's gradients, over new tensors for what it writes."""
    B, H = d_h.shape
    (h_before, c_before), (h, c) = before, after
    tensors = {
        "d_h": d_h,
        "d_c": d_c,
        "saved": saved,
        "h_before": h_before,
        "c_before": c_before,
        "h": h,
        "c": c,
        "per_unit": per_unit,
        "d_from_x": d_h.new_empty(B, cell.x_blocks * H),
        "d_from_h": None if _are_alike(cell) else d_h.new_empty(B, cell.h_blocks * H),
        "d_h_before": torch.empty_like(d_h) if cell.carries[0] else None,
        "d_c_before": None if d_c is None else torch.empty_like(d_c),
        "d_per_unit": d_h.new_empty(B, cell.per_unit * H) if cell.per_unit else None,
    }
    return _launch(backward_kernel, cell, d_h, tensors, "backward")


def _are_alike(cell: DeviceCell) -> bool:
    """Whether both products' gradients are the same numbers, or there is only one product."""
    return cell.x_block == cell.h_block or not cell.h_blocks


def _launch(
    kernel: Any, cell: DeviceCell, state: Tensor, tensors: dict[str, Tensor | None], regime: str
) -> Launch:
    """Programs for all tiles of the state [B, H]; the tile depends only on H."""
    B, H = state.shape
    block_h = min(TILE, triton.next_power_of_2(H))
    block_b = TILE // block_h
    blocks = {"BLOCK_B": block_b, "BLOCK_H": block_h}
    return Launch(
        kernel,
        (triton.cdiv(B, block_b), triton.cdiv(H, block_h)),
        {**tensors, "B": B, "H": H, "CELL": cell, **blocks},
        {"num_warps": NUM_WARPS},
        regime,
        blocks,
    )


def _looked_at(uses: tuple[bool, ...], states: tuple[Any, Any]) -> tuple[Any, Any]:
    """The states, None if they are not used: a projected h is narrower than a kernel's."""
    return states[0] if uses[0] else None, states[1] if any(uses[1:]) else None


class _Gates(torch.autograd.Function):
    """One step's gates: from_x, from_h, h, c and the parameters a unit -> h [B, H], c [B, K*H].

    from_h, c and the parameters are None if the cell has none.
    """

    @staticmethod
    def forward(
        ctx: Any, cell: DeviceCell, from_x: Tensor, from_h: Tensor | None, *given: Any
    ) -> State:
        h, c, per_unit = given
        launch = forward_launch(cell, from_x, from_h, h, c, per_unit, saving=True)
        launch.run()
        written = launch.arguments
        before = _looked_at(cell.uses_before, (h, c))
        after = _looked_at(cell.uses_after, (written["h"], written["c"]))
        ctx.cell = cell
        ctx.save_for_backward(written["saved"], *before, *after, per_unit)
        return written["h"], written["c"]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_h: Tensor, d_c: Tensor | None) -> tuple[Tensor | None, ...]:
        cell, (saved, h_before, c_before, h, c, per_unit) = ctx.cell, ctx.saved_tensors
        d_h, d_c = d_h.contiguous(), None if d_c is None else d_c.contiguous()
        launch = backward_launch(cell, d_h, d_c, saved, (h_before, c_before), (h, c), per_unit)
        launch.run()
        written = launch.arguments
        d_from_h, d_per_unit = written["d_from_h"], written["d_per_unit"]
        if d_from_h is None and cell.h_blocks:
            d_from_h = written["d_from_x"]
        return (
            None,
            written["d_from_x"],
            d_from_h,
            written["d_h_before"],
            written["d_c_before"],
            None if d_per_unit is None else d_per_unit.sum(0),
        )


def fused_step(
    definition: Cell,
    from_x: Tensor,
    from_h: Tensor | None,
    h: Tensor,
    c: Tensor | None,
    per_unit: Tensor | None,
) -> State:
    """The state after a step, before any projection; as `gates.next_state`, in one kernel."""
    tensors = (from_x, from_h, h, c, per_unit)
    needs = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    from_x, from_h, h, c, per_unit = (None if t is None else t.contiguous() for t in tensors)
    cell = device_cell(definition)
    if needs:
        # torch does not annotate `apply`.
        return _Gates.apply(cell, from_x, from_h, h, c, per_unit)  # type: ignore[no-any-return]
    launch = forward_launch(cell, from_x, from_h, h, c, per_unit, saving=False)
    launch.run()
    return launch.arguments["h"], launch.arguments["c"]


def _one_direction(
    x: Tensor, h: Tensor, c: Tensor | None, weights: Weights, *, cell: str, alive: Tensor | None
) -> Outputs:
    w_ih, w_hh, b_ih, b_hh, w_hr, per_unit = weights
    definition = CELLS[cell]

    def step(from_x: Tensor, h: Tensor, c: Tensor | None, _: Tensor | None) -> State:
        from_h = product(h, w_hh, b_hh) if definition.h_blocks else None
        h, c = fused_step(definition, from_x, from_h, h, c, per_unit)
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

    def run(x: Tensor, h0: Tensor, c0: Tensor | None, *flat: Tensor | None) -> Outputs:
        given = x, h0, c0, unflatten(flat)
        return run_directions(_one_direction, *given, problem=problem, lengths=lengths)

    flat = [tensor for direction in weights for tensor in direction]
    tensors = (x, h0, c0, *flat)
    # Triton launches on the current device, even if the tensors are on another.
    with torch.cuda.device_of(x):
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
            y, h_n, *c_n = Recorded.apply(run, problem, lengths, *tensors)
            return y, h_n, c_n[0] if c_n else None
        return run(x, h0, c0, *flat)


def unsupported(problem: Problem, device: str) -> str | None:
    """The reason not to run this, or None."""
    return triton_limit(problem, device, WHAT)


def launches_for(problem: Problem, arch: str) -> list[Launch]:
    """What a step launches: for inference, for a forward that saves and for a backward."""
    B, H, cell = problem.batch, problem.hidden_size, device_cell(problem.definition)

    def meta(*shape: int) -> Tensor:
        return torch.empty(*shape, dtype=getattr(torch, problem.dtype), device="meta")

    h, c = meta(B, H), meta(B, problem.cell_state_size) if problem.has_cell_state else None
    from_h = meta(B, problem.h_gates * H) if problem.h_gates else None
    per_unit = meta(cell.per_unit * H) if cell.per_unit else None
    given = cell, meta(B, problem.gates * H), from_h, h, c, per_unit
    forwards = [forward_launch(*given, saving) for saving in (False, True)]
    before, after = (_looked_at(uses, (h, c)) for uses in (cell.uses_before, cell.uses_after))
    saved = forwards[1].arguments["saved"]
    return [*forwards, backward_launch(cell, h, c, saved, before, after, per_unit)]
