"""The grid against TensorFlow's numbers, and against a loop over its points."""

from typing import Any

import closeness
import pytest
import torch
from any_cells import any_cell_backends
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

import lstm_kernels as lk

T, B, INPUTS, H, L = 5, 3, 4, 6, 3
OF_LSTMS, OF_THE_PAPER = "o*tanh(c)", "tanh(o*c)"

# tensorflow/contrib/grid_rnn/python/kernel_tests/grid_rnn_test.py, testGrid2BasicLSTMCell and
# testGrid2BasicLSTMCellTied: what each step's x is, and the state (c0, h0, c1, h1) after it, where
# dimension 0 is depth. All weights are .2, so that tied or not is one.
FIRST = [0.71053141] * 2 + [0.36617181] * 2 + [0.72320831, 0.80555487, 0.39102408, 0.42150158]
AFTER_2 = [1.40469193] * 2 + [0.58847463] * 2 + [0.97726452, 1.04626071, 0.4927212, 0.51137757]
AFTER_1 = [0.71200621] * 2 + [0.36703536] * 2 + [0.80941606, 0.87550586, 0.40108523, 0.42199609]
TENSORFLOWS = {"1": ([1], FIRST), "1-2": ([1, 2], AFTER_2), "1-1": ([1, 1], AFTER_1)}
# (c0, h0, c1, h1) before the first step. In place of the first two each step has x projected.
BEFORE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]

GRIDS = {
    "one-layer": {"num_layers": 1},
    "untied": {},
    "tied": {"tied": True},
    "depth-first": {"priority": "depth"},
    "tied-depth-first": {"tied": True, "priority": "depth"},
    "no-bias": {"bias": False},
}


def grid_of(**settings: Any) -> lk.GridLSTM:
    return lk.GridLSTM(INPUTS, H, **{"num_layers": L} | settings)


@pytest.mark.parametrize(("xs", "after"), TENSORFLOWS.values(), ids=TENSORFLOWS)
@pytest.mark.parametrize("tied", [False, True])
def test_tensorflows_numbers(
    eager_or_slow_backend: str, tied: bool, xs: list[int], after: list[float]
) -> None:
    grid = lk.GridLSTM(3, 2, tied=tied, priority="depth", backend=eager_or_slow_backend)
    with torch.no_grad():
        for name, parameter in grid.named_parameters():
            parameter.fill_(0 if "bias" in name else 0.2)
        for lstm in (*grid.along_time, *grid.along_depth):
            lstm.bias_ih_l0[2:4] = 1  # the forget gate's
    _, _, c1, h1 = torch.tensor(BEFORE).view(4, 1, 1, 2)
    x = torch.tensor(xs, dtype=torch.float32).view(-1, 1, 1).expand(-1, 1, 3)
    h_depth, c_depth, (h_n, c_n) = grid.far_sides(x, (h1, c1))
    got = torch.cat([side.flatten() for side in (c_depth[-1], h_depth[-1], c_n, h_n)])
    # Eight digits of numbers below 2, computed in float32.
    torch.testing.assert_close(got, torch.tensor(after), rtol=0, atol=1e-6)


def point(W: Tensor, b: Tensor, H_in: Tensor, c: Tensor, output: str) -> tuple[Tensor, Tensor]:
    """A transform as the paper has it: W [4H, 2H] of all hidden vectors, H_in [B, 2H]."""
    i, f, g, o = (H_in @ W.T + b).chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return (o.sigmoid() * c.tanh() if output == OF_LSTMS else (o.sigmoid() * c).tanh()), c


def by_points(grid: lk.GridLSTM, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, ...]:
    """A grid's four far sides, a point at a time; x [T, B, I], states and weights in one dtype."""
    transforms = []
    for time, depth in zip(grid.along_time, grid.along_depth, strict=True):
        biases = [
            lstm.bias_ih_l0 + lstm.bias_hh_l0
            if hasattr(lstm, "bias_ih_l0")
            else torch.zeros(1).to(x)
            for lstm in (time, depth)
        ]
        # H is [h_depth, h_time]: what is an LSTM's input along one dimension is its state along
        # the other.
        W_time = torch.cat([time.weight_ih_l0, time.weight_hh_l0], dim=1)
        W_depth = torch.cat([depth.weight_hh_l0, depth.weight_ih_l0], dim=1)
        transforms.append(((W_time, biases[0]), (W_depth, biases[1])))
    h_time, c_time = list(h0), list(c0)
    h_out, c_out = [], []
    for x_t in x:
        h, c = (x_t @ grid.project.weight.T).split(grid.hidden_size, dim=-1)
        for layer in range(grid.num_layers):
            of_time, of_depth = transforms[0 if grid.tied else layer]
            both = torch.cat([h, h_time[layer]], dim=-1)
            h_time[layer], c_time[layer] = point(*of_time, both, c_time[layer], grid.output)
            if grid.priority == "depth":
                both = torch.cat([h, h_time[layer]], dim=-1)
            h, c = point(*of_depth, both, c, grid.output)
        h_out.append(h)
        c_out.append(c)
    return tuple(torch.stack(each) for each in (h_out, c_out, h_time, c_time))


def by_sweeps(grid: lk.GridLSTM, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, ...]:
    h, c, last = grid.far_sides(x, (h0, c0))
    return h, c, *last


def results(run: Any, grid: lk.GridLSTM, dtype: torch.dtype) -> dict[str, Tensor]:
    """All outputs and all gradients, each output's elements weighed differently."""
    generator = torch.Generator().manual_seed(1)
    state = (grid.num_layers, B, H)
    inputs = [
        torch.randn(shape, generator=generator).to(dtype).requires_grad_()
        for shape in ((T, B, INPUTS), state, state)
    ]
    grid.zero_grad()
    outputs = run(grid, *inputs)
    weights = [torch.linspace(-1, 1.5, out.numel()).to(out).view_as(out) for out in outputs]
    sum((w * out).sum() for w, out in zip(weights, outputs, strict=True)).backward()
    named = dict(zip(("h_depth", "c_depth", "h_n", "c_n"), outputs, strict=True))
    named |= {f"d_{name}": t.grad for name, t in zip(("x", "h0", "c0"), inputs, strict=True)}
    return named | {f"d_{name}": p.grad.clone() for name, p in grid.named_parameters()}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("settings", GRIDS.values(), ids=GRIDS)
def test_sweeps_on_a_backend_are_the_points(
    eager_or_slow_backend: str,
    dtype: str,
    settings: dict[str, Any],
    skip_where_refused: Any,
    assert_same: Any,
) -> None:
    skip_where_refused(eager_or_slow_backend, lk.Problem("lstm", T, B, H, H, dtype=dtype))
    grid = grid_of(backend=eager_or_slow_backend, **settings).to(getattr(torch, dtype))
    got = results(by_sweeps, grid, getattr(torch, dtype))
    assert_same(got, results(by_points, grid.double(), torch.float64), closeness.LAYER[dtype])
    for lstm in (*grid.along_time, *grid.along_depth):
        assert lstm.chosen_backend == eager_or_slow_backend


@pytest.mark.parametrize("settings", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("on", any_cell_backends(fast=["naive", "per_gate", "hoisted"]))
def test_the_papers_output_on_a_backend_is_the_points(
    on: str, settings: dict[str, Any], skip_where_refused: Any, assert_same: Any
) -> None:
    skip_where_refused(on, lk.Problem("lstm", T, B, H, H, dtype="float64"))
    grid = grid_of(output=OF_THE_PAPER, backend=on, **settings).double()
    got = results(by_sweeps, grid, torch.float64)
    assert_same(got, results(by_points, grid, torch.float64), closeness.LAYER["float64"])
    for lstm in (*grid.along_time, *grid.along_depth):
        assert lstm.chosen_backend == on


def test_the_papers_output_runs_where_no_backend_is_named() -> None:
    grid = grid_of(output=OF_THE_PAPER)
    grid(torch.ones(T, B, INPUTS))
    assert {lstm.chosen_backend for lstm in grid.along_time} == {"hoisted"}


def test_the_comparison_tells_grids_apart() -> None:
    differing = [{}, {"tied": True}, {"priority": "depth"}, {"output": OF_THE_PAPER}]
    sides = []
    for settings in differing:
        torch.manual_seed(0)
        sides.append(by_points(grid_of(**settings), torch.ones(T, B, INPUTS), *ones()))
    for one in range(len(sides)):
        for other in range(one):
            assert closeness.relative_error(sides[one][0], sides[other][0]) > 1e-3


def ones() -> tuple[Tensor, Tensor]:
    return torch.ones(L, B, H), torch.ones(L, B, H)


@pytest.mark.parametrize("output", [OF_LSTMS, OF_THE_PAPER])
@pytest.mark.parametrize("priority", [None, "depth"])
@pytest.mark.parametrize("tied", [False, True])
def test_gradcheck(output: str, priority: str | None, tied: bool) -> None:
    settings: Any = {"output": output, "priority": priority, "tied": tied}
    grid = lk.GridLSTM(2, 2, 2, dtype=torch.float64, **settings)
    names = [name for name, _ in grid.named_parameters()]

    def call(x: Tensor, h0: Tensor, c0: Tensor, *parameters: Tensor) -> Any:
        weights = dict(zip(names, parameters, strict=True))
        y, last = torch.func.functional_call(grid, weights, (x, (h0, c0)))
        return y, *last

    shapes = ((3, 2, 2), (2, 2, 2), (2, 2, 2))
    inputs = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    parameters = [p.detach().requires_grad_() for p in grid.parameters()]
    assert torch.autograd.gradcheck(call, (*inputs, *parameters))


@pytest.mark.parametrize("output", [OF_LSTMS, OF_THE_PAPER])
def test_layouts_are_one_grid(output: str) -> None:
    grid, x = grid_of(output=output), torch.randn(T, B, INPUTS)
    want, want_last = grid(x, ones())
    batch_first = grid_of(output=output, batch_first=True)
    batch_first.load_state_dict(grid.state_dict())
    y, last = batch_first(x.transpose(0, 1), ones())
    torch.testing.assert_close((y.transpose(0, 1), last), (want, want_last))
    for module in (grid, batch_first):
        y, last = module(x[:, 1], tuple(state[:, 1] for state in ones()))
        torch.testing.assert_close(y, want[:, 1])
        torch.testing.assert_close(last, tuple(state[:, 1] for state in want_last))


@pytest.mark.parametrize("output", [OF_LSTMS, OF_THE_PAPER])
@pytest.mark.parametrize("priority", [None, "depth"])
def test_a_sequence_goes_on_from_its_states(output: str, priority: str | None) -> None:
    grid, x = grid_of(output=output, priority=priority), torch.randn(T, B, INPUTS)
    want, want_last = grid(x)
    first, last = grid(x[:2], tuple(torch.zeros_like(state) for state in ones()))
    rest, last = grid(x[2:], last)
    torch.testing.assert_close((torch.cat([first, rest]), last), (want, want_last))
    empty, last = grid(x[:, :0])
    assert (empty.shape, last[0].shape) == ((T, 0, H), (L, 0, H))


@pytest.mark.parametrize("output", [OF_LSTMS, OF_THE_PAPER])
@pytest.mark.parametrize("priority", [None, "depth"])
def test_states_go_on_under_autocast(output: str, priority: str | None) -> None:
    grid, x = grid_of(output=output, priority=priority), torch.randn(T, B, INPUTS)
    want, _ = grid(x)
    with torch.autocast("cpu", torch.bfloat16):
        first, last = grid(x[:2])
        rest, _ = grid(x[2:], last)
    got = torch.cat([first, rest])
    assert closeness.relative_error(got, want) < 2 * closeness.LAYER["bfloat16"]
    got.float().sum().backward()
    assert grid.project.weight.grad is not None


def test_tied_holds_one_set_of_weights() -> None:
    tied, untied = grid_of(tied=True), grid_of()
    assert set(tied.state_dict()) < set(untied.state_dict())
    of_one_layer = 2 * (2 * 4 * H * H + 2 * 4 * H)
    sizes = [sum(p.numel() for p in grid.parameters()) for grid in (tied, untied)]
    assert sizes == [2 * H * INPUTS + of_one_layer, 2 * H * INPUTS + L * of_one_layer]
    assert "tied=True" in repr(tied)


MISTAKES = {
    "backend": ({"backend": "trtion"}, "unknown backend 'trtion'; did you mean 'triton'"),
    "output": ({"output": "o*c"}, r"unknown output 'o\*c'.*known: o\*tanh\(c\), tanh\(o\*c\)"),
    "priority": ({"priority": "time"}, "priority='time': expected None or 'depth'"),
    "layers": ({"num_layers": 0}, "num_layers=0: expected a whole number from 1 on"),
    "paper": (
        {"output": OF_THE_PAPER, "backend": "aten"},
        r"backend 'aten' computes 'o\*tanh\(c\)' alone; expected for output 'tanh\(o\*c\)' one of:",
    ),
}


@pytest.mark.parametrize(("settings", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistaken_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid_of(**settings)


@pytest.mark.parametrize("output", [OF_LSTMS, OF_THE_PAPER])
def test_mistaken_calls(output: str) -> None:
    grid, x = grid_of(output=output), torch.randn(T, B, INPUTS)
    with pytest.raises(ValueError, match=r"\(5, 3, 3\); expected 2 or 3 dimensions, the last 4"):
        grid(x[..., :3])
    with pytest.raises(ValueError, match="no step; expected one or more"):
        grid(x[:0])
    with pytest.raises(ValueError, match=r"h0 has shape \(2, 3, 6\); expected \(3, 3, 6\)"):
        grid(x, tuple(state[1:] for state in ones()))
    with pytest.raises(ValueError, match=r"c0 is torch.float64 on cpu; expected x's"):
        grid(x, (ones()[0], ones()[1].double()))
    with pytest.raises(TypeError, match="packed input; pad it"):
        grid(pack_sequence([x[:, 0]]))
