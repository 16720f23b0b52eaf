"""Under torch.autocast: torch.nn's dtypes and values, forward and backward, on every backend."""

from itertools import product
from typing import Any

import closeness
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import lstm_kernels as lk
from lstm_kernels import registry

BF16 = torch.bfloat16
# Either of two may be that far from what is exact.
BOUND = 2 * closeness.LAYER["bfloat16"]
T, B, INPUTS, H = 4, 2, 3, 5
# What is given: the input from a Linear under autocast, or as it is; no state, or one.
GIVEN = list(product((BF16, torch.float32), (None, BF16, torch.float32)))
NETWORKS = {"lstm": {}, "projected": {"proj_size": 2}, "gru": {}, "rnn_tanh": {}, "rnn_relu": {}}

Results = dict[str, Tensor]


def run(module: torch.nn.RNNBase, given: Any, packed: bool, autocast: bool = True) -> Results:
    """Results and gradients by name; the same numbers each time."""
    x_dtype, state_dtype = given
    torch.manual_seed(0)
    x = torch.randn(T, B, INPUTS, requires_grad=True)
    linear = torch.nn.Linear(INPUTS, INPUTS)
    sizes = [module.proj_size or H] + [H] * (module.mode == "LSTM")
    states = [torch.randn(2, B, size).to(state_dtype).requires_grad_() for size in sizes]
    module.zero_grad()
    with torch.autocast("cpu", BF16, enabled=autocast):
        made = linear(x) if x_dtype is BF16 else x
        made.retain_grad()
        sequences: Any = made
        if packed:
            sequences = pack_padded_sequence(made, torch.tensor([2, 4]), enforce_sorted=False)
        state: Any = None
        if state_dtype is not None:
            given_states = [s if autocast else s.float() for s in states]
            state = tuple(given_states) if len(states) == 2 else given_states[0]
        y, last = module(sequences, state)
    y = y.data if packed else y
    last = last if isinstance(last, tuple) else (last,)
    (y.float().pow(2).sum() + sum(s.float().pow(2).sum() for s in last)).backward()
    results = {"y": y, "d_x": made.grad, "d_linear": x.grad}
    results |= {f"last_{i}": s for i, s in enumerate(last)}
    if state_dtype is not None:
        results |= {f"d_state_{i}": s.grad for i, s in enumerate(states)}
    return results | {f"d_{name}": p.grad for name, p in module.named_parameters()}


def torch_nn_fails(module: torch.nn.RNNBase, given: Any, packed: bool) -> bool:
    """Of a float32 input it asks oneDNN for an LSTM in bfloat16, whether the CPU can or not."""
    by_onednn = module.mode == "LSTM" and not module.proj_size and not packed
    asked = by_onednn and given[0] is torch.float32 and torch.backends.mkldnn.is_available()
    return asked and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.fixture
def pair(make_pair: Any) -> Any:
    """torch.nn's module of one of the networks, and ours."""

    def make(network: str, backend: str) -> tuple[torch.nn.RNNBase, torch.nn.RNNBase]:
        settings = NETWORKS[network] | {"bidirectional": True}
        return make_pair(
            "lstm" if settings.get("proj_size") else network, backend, INPUTS, H, **settings
        )

    return make


@pytest.fixture
def refusal(backend: str) -> Any:
    """Why a backend runs a network in no dtype, or None."""

    def reason(network: str) -> str | None:
        settings = NETWORKS[network] | {"bidirectional": True}
        cell = "lstm" if network == "projected" else network
        problem = lk.Problem(cell, T, B, INPUTS, H, **settings)
        return registry.load(backend).unsupported(problem, "cpu")

    return reason


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("cell", NETWORKS)
def test_dtypes_and_values_are_torch_nns(
    backend: str, cell: str, packed: bool, pair: Any, refusal: Any
) -> None:
    theirs, ours = pair(cell, backend)
    if refusal(cell) is not None:
        with pytest.raises(lk.Unsupported) as refused:
            run(ours, GIVEN[0], packed)
        assert str(refused.value) == f"backend {backend!r}: {refusal(cell)}"
        return
    # Interpreted, a call is dear: the first and the last of what may be given.
    for given in GIVEN[:: 5 if registry.get(backend).interpreter else 1]:
        got = run(ours, given, packed)
        if torch_nn_fails(theirs, given, packed):
            want = run(theirs, given, packed, autocast=False)
            want |= {name: t.to(BF16) for name, t in want.items() if not name.startswith("d_")}
        else:
            want = run(theirs, given, packed)
        assert {name: t.dtype for name, t in got.items()} == {n: t.dtype for n, t in want.items()}
        errors = closeness.relative_errors(got, want)
        closeness.assert_within(BOUND, errors, f"{backend} {cell} {given} {packed}")


@pytest.mark.parametrize("low", [BF16, torch.float16])
def test_functional_forms(cell: str, low: torch.dtype) -> None:
    rows = H * lk.CELLS[cell].x_blocks
    shapes = [(T, B, INPUTS), (B, H), (B, H), (rows, INPUTS), (rows, H), (rows,), (rows,)]
    if cell != "lstm":
        del shapes[2]
    tensors = [torch.randn(shape, requires_grad=True) for shape in shapes]
    function = getattr(lk, cell)
    want = function(*tensors, backend="naive")
    with torch.autocast("cpu", low):
        got = function(*tensors, backend="naive")
    # PyTorch's loop on a CPU keeps a GRU's state in float32.
    assert {y.dtype for y in got} == {torch.float32 if cell == "gru" else low}
    errors = closeness.relative_errors(dict(enumerate(got)), dict(enumerate(want)))
    closeness.assert_within(closeness.LAYER["bfloat16"], errors)
    sum(y.float().sum() for y in got).backward()
    assert {t.grad.dtype for t in tensors} == {torch.float32}


def test_dtypes_where_onednn_has_bfloat16(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lstm_kernels import autocast

    _, ours = pair("lstm", "naive")
    for supported, dtype in ((True, BF16), (False, torch.float32)):
        monkeypatch.setattr(autocast, "_onednn_has_bfloat16", lambda found=supported: found)
        got = run(ours, (BF16, torch.float32), packed=False)
        assert {got[name].dtype for name in ("y", "last_0", "last_1")} == {dtype}


def test_float64_is_left_alone(eager_backend: str, make_pair: Any) -> None:
    _, ours = make_pair("lstm", eager_backend, INPUTS, H)
    x = torch.randn(T, B, INPUTS, dtype=torch.float64)
    want = ours.double()(x)[0]
    with torch.autocast("cpu", BF16):
        assert torch.equal(ours(x)[0], want)


def test_what_autocast_casts_nowhere_is_refused(eager_backend: str, make_pair: Any) -> None:
    _, ours = make_pair("lstm", eager_backend, INPUTS, H)
    for dtype in (torch.float64, torch.int64):
        with (
            torch.autocast("cpu", BF16),
            pytest.raises(RuntimeError, match=f"{dtype}, which autocast never casts"),
        ):
            ours(torch.ones(T, B, INPUTS, dtype=dtype))


def test_a_second_derivative(make_pair: Any) -> None:
    _, ours = make_pair("gru", "hoisted", INPUTS, H)
    x = torch.randn(T, B, INPUTS, requires_grad=True)
    with torch.autocast("cpu", BF16):
        y, _ = ours(x)
    (d_x,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
    d_x.pow(2).sum().backward()
    assert ours.weight_hh_l0.grad.norm() > 0


def test_resets_change_no_dtype(eager_backend: str) -> None:
    rnn, x = lk.LSTM(4, 5, backend=eager_backend), torch.randn(3, 2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        y, (h, c) = rnn(x)
        cut, (h_cut, c_cut) = rnn(x, resets=torch.tensor([[True, False]] * 3))
    assert (cut.dtype, h_cut.dtype, c_cut.dtype) == (y.dtype, h.dtype, c.dtype)
