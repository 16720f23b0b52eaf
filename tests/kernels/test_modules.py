"""`LSTM`, `GRU` and `RNN` behave as torch.nn's do, on every backend."""

import copy
import io
import pickle
from typing import Any

import closeness
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import lstm_kernels as lk
from lstm_kernels import registry

MODULES = {"lstm": lk.LSTM, "gru": lk.GRU, "rnn_tanh": lk.RNN, "rnn_relu": lk.RNN}


def settings_of(cell: str) -> dict[str, Any]:
    return {"nonlinearity": "relu"} if cell == "rnn_relu" else {}


def state_tensors(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


@pytest.fixture(scope="module")
def torch_test_cases() -> dict[type, Any]:
    """PyTorch's own module test cases; importing them freezes torch's flags, which is undone."""
    from torch.testing._internal.common_modules import module_db

    torch.backends.disable_global_flags.__globals__["__allow_nonbracketed_mutation_flag"] = True
    return {info.module_cls: info for info in module_db}


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_torchs_own_inputs(
    eager_or_slow_backend: str, name: str, torch_test_cases: Any, assert_same: Any
) -> None:
    backend = eager_or_slow_backend
    info = torch_test_cases[getattr(torch.nn, name)]
    packed = {} if name == "LSTM" else {"with_packed_sequence": True}
    inputs = info.module_inputs_func(
        info, "cpu", torch.float32, requires_grad=True, training=True, **packed
    )
    assert len(inputs) >= (32 if name != "GRU" else 16)
    # Interpreted or compiled for each, they are dear; their options are on and off by turns of two.
    dear = backend == "compiled" or bool(registry.get(backend).interpreter)
    for case in inputs[:: 3 if dear else 1]:
        args, kwargs = case.constructor_input.args, case.constructor_input.kwargs
        theirs = getattr(torch.nn, name)(*args, **kwargs)
        ours = getattr(lk, name)(*args, **kwargs, backend=backend)
        ours.load_state_dict(theirs.state_dict())
        y, state = ours(*case.forward_input.args)
        want_y, want_state = theirs(*case.forward_input.args)
        got = dict(enumerate([getattr(y, "data", y), *state_tensors(state)]))
        want = dict(enumerate([getattr(want_y, "data", want_y), *state_tensors(want_state)]))
        assert type(y) is type(want_y)
        assert_same(got, want)
        if case.reference_fn is not None and isinstance(y, Tensor):
            again, state = case.reference_fn(ours, *case.forward_input.args)
            assert_same(dict(enumerate([again, *state_tensors(state)])), want)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_torchs_own_error_inputs(name: str, torch_test_cases: Any) -> None:
    info = torch_test_cases[getattr(torch.nn, name)]
    errors = info.module_error_inputs_func(
        info, "cpu", torch.float32, requires_grad=False, training=False
    )
    for case in errors:
        made = case.module_error_input.constructor_input
        call = case.module_error_input.forward_input

        def mistake(made: Any = made, call: Any = call) -> None:
            getattr(lk, name)(*made.args, **made.kwargs)(*call.args, **call.kwargs)

        with pytest.raises(case.error_type, match=case.error_regex):
            mistake()


@pytest.mark.parametrize("batch_first", [False, True])
def test_unbatched_input(backend: str, cell: str, batch_first: bool, make_pair: Any) -> None:
    theirs, ours = make_pair(cell, backend, 3, 4, batch_first=batch_first, bidirectional=True)
    x, h = torch.randn(5, 3), torch.randn(2, 4)
    state = (h, h) if cell == "lstm" else h
    for hx in (None, state):
        y, last = ours(x, hx)
        want_y, want = theirs(x, hx)
        torch.testing.assert_close(y, want_y)
        torch.testing.assert_close(last, want)


@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_input_keeps_its_order(
    backend: str, cell: str, enforce_sorted: bool, make_pair: Any
) -> None:
    theirs, ours = make_pair(cell, backend, 3, 4)
    sequences = [torch.randn(n, 3) for n in ((5, 4, 2) if enforce_sorted else (2, 5, 4))]
    packed = pack_sequence(sequences, enforce_sorted=enforce_sorted)
    y, state = ours(packed)
    want, want_state = theirs(packed)
    torch.testing.assert_close(y.data, want.data)
    torch.testing.assert_close(state, want_state)
    for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        theirs_field, ours_field = getattr(want, field), getattr(y, field)
        assert ours_field is theirs_field is None or torch.equal(ours_field, theirs_field)


@pytest.mark.parametrize("packed", [False, True])
def test_dropout_draws_torchs_numbers(
    backend: str, cell: str, packed: bool, make_pair: Any
) -> None:
    theirs, ours = make_pair(cell, backend, 3, 4, num_layers=3, dropout=0.4, bidirectional=True)
    x: Any = torch.randn(3, 2, 3)
    if packed:
        x = pack_padded_sequence(x, torch.tensor([2, 3]), enforce_sorted=False)
    torch.manual_seed(1)
    want, _ = theirs(x)
    torch.manual_seed(1)
    got, _ = ours(x)
    torch.testing.assert_close(getattr(got, "data", got), getattr(want, "data", want))


def test_an_empty_batch(backend: str, cell: str, make_pair: Any) -> None:
    theirs, ours = make_pair(cell, backend, 3, 4)
    y, _ = ours(torch.zeros(5, 0, 3))
    assert y.shape == theirs(torch.zeros(5, 0, 3))[0].shape == (5, 0, 4)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_state_dicts_load_both_ways(cell: str, bidirectional: bool) -> None:
    settings = settings_of(cell) | {"num_layers": 2, "bidirectional": bidirectional}
    if cell == "lstm":
        settings["proj_size"] = 2
    ours = MODULES[cell](3, 4, **settings, backend="naive")
    theirs = MODULES[cell].__mro__[2](3, 4, **settings)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())


def save_and_load(module: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module)), save_and_load],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_copies_keep_backend_and_weights(cell: str, copied: Any) -> None:
    module = MODULES[cell](3, 4, **settings_of(cell), backend="hoisted")
    x = torch.randn(5, 2, 3)
    y, _ = module(x)
    again = copied(module)
    assert again.backend == "hoisted"
    assert torch.equal(again(x)[0], y)
    with torch.no_grad():
        next(module.parameters()).zero_()
    assert torch.equal(again(x)[0], y)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes(
    backend: str,
    cell: str,
    dtype: str,
    packed: bool,
    make_pair: Any,
    run_module: Any,
    assert_same: Any,
    skip_where_refused: Any,
) -> None:
    """All results are those of torch.nn's module with the same numbers, in float64."""
    settings = {"num_layers": 2, "bidirectional": True}
    if cell == "lstm":
        settings["proj_size"] = 3
    skip_where_refused(backend, lk.Problem(cell, 5, 3, 2, 4, dtype=dtype, **settings))
    theirs, ours = make_pair(cell, backend, 2, 4, **settings)
    if cell == "rnn_relu":
        # Where a unit is near 0, rounding decides whether it has a gradient.
        for name, parameter in ours.named_parameters():
            parameter.data += 3.0 * ("bias_ih" in name)
    ours.to(getattr(torch, dtype))
    theirs.load_state_dict(ours.state_dict())
    theirs.double()
    x = torch.randn(5, 3, 2)
    states = [torch.randn(4, 3, size) for size in ((3, 4) if cell == "lstm" else (4,))]
    x, *states = (tensor.to(getattr(torch, dtype)) for tensor in (x, *states))
    lengths = torch.tensor([2, 5, 1]) if packed else None
    got = run_module(ours, x, states, lengths)
    assert {tensor.dtype for tensor in got.values()} == {getattr(torch, dtype)}
    want = run_module(theirs, x.double(), [state.double() for state in states], lengths)
    assert_same(got, want, bound=closeness.FEW_UNITS[dtype])


def test_a_parameter_put_in_place_of_another_is_used(backend: str, make_pair: Any) -> None:
    theirs, ours = make_pair("lstm", backend, 3, 4)
    x = torch.randn(5, 2, 3)
    changed = {name: p * 2 for name, p in theirs.named_parameters()}
    want, _ = torch.func.functional_call(theirs, changed, x)
    got, _ = torch.func.functional_call(ours, changed, x)
    torch.testing.assert_close(got, want)


def test_an_update_in_place_is_seen(backend: str, cell: str, make_pair: Any) -> None:
    theirs, ours = make_pair(cell, backend, 3, 4)
    x = torch.randn(5, 2, 3)
    for module in (theirs, ours):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
        for _ in range(2):
            optimizer.zero_grad()
            module(x)[0].square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])


def mistakes(cell: str) -> dict[str, tuple[Any, ...]]:
    x, h = torch.randn(5, 3, 4), torch.randn(2, 3, 6)

    def state(tensor: Tensor) -> Any:
        return (tensor, tensor) if cell == "lstm" else tensor

    calls: dict[str, tuple[Any, ...]] = {
        "1-D input": (torch.randn(4),),
        "4-D input": (torch.randn(1, 5, 3, 4),),
        "no steps": (torch.randn(0, 3, 4),),
        "wrong features": (torch.randn(5, 3, 7),),
        "wrong features, unbatched": (torch.randn(5, 7),),
        "wrong input dtype": (x.double(),),
        "whole numbers": (torch.ones(5, 3, 4, dtype=torch.long),),
        "not a tensor": ([1, 2],),
        "2-D state": (x, state(h[:, 0])),
        "3-D state, unbatched": (x[:, 0], state(h)),
        "state of another H": (x, state(torch.randn(2, 3, 5))),
        "state of another B": (x, state(torch.randn(2, 2, 6))),
        "state of another L": (x, state(torch.randn(1, 3, 6))),
        "state of another dtype": (x, state(h.double())),
        "state on another device": (x, state(h.to("meta"))),
    }
    if cell == "lstm":
        calls["h alone"] = (x, h)
        calls["wrong c"] = (x, (h, torch.randn(2, 3, 5)))
        calls["c of another dtype"] = (x, (h, h.double()))
        calls["one state in a tuple"] = (x, (h,))
    else:
        packed = pack_sequence([torch.randn(3, 4), torch.randn(2, 4)])
        calls["h and c"] = (x, (h, h))
        calls["packed, wrong features"] = (pack_sequence([torch.randn(3, 7)]),)
        calls["packed, wrong dtype"] = (pack_sequence([torch.randn(3, 4).double()]),)
        calls["packed, state of another B"] = (packed, h)
    return calls


def error_of(module: Any, args: tuple[Any, ...]) -> type[BaseException] | None:
    try:
        module(*args)
    except Exception as error:  # noqa: BLE001 - which one it is, is the question
        return type(error)
    return None


def test_mistakes_raise_what_torch_raises(backend: str, cell: str, make_pair: Any) -> None:
    theirs, ours = make_pair(cell, backend, 4, 6, num_layers=2)
    expected = {name: error_of(theirs, args) for name, args in mistakes(cell).items()}
    assert {name: error_of(ours, args) for name, args in mistakes(cell).items()} == expected
    assert None not in expected.values()


@pytest.mark.parametrize(
    ("sizes", "settings"),
    [
        ((0, 4), {}),
        ((3, -1), {}),
        ((3.0, 4), {}),
        ((3, 4), {"num_layers": 0}),
        ((3, 4), {"bias": 1}),
        ((3, 4), {"dropout": 2.0}),
        ((3, 4), {"proj_size": 4}),
        ((3, 4), {"unknown": 1}),
        ((3,), {}),
    ],
)
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_construction_mistakes_raise_what_torch_raises(
    name: str, sizes: Any, settings: Any
) -> None:
    def error(module: Any) -> type[BaseException] | None:
        return error_of(lambda: module(*sizes, **settings), ())

    assert error(getattr(lk, name)) is error(getattr(torch.nn, name)) is not None


def test_an_unknown_backend_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown backend 'nave'; did you mean 'naive'"):
        lk.LSTM(3, 4, backend="nave")


def test_auto_says_what_it_took() -> None:
    rnn = lk.LSTM(3, 4)
    assert rnn.chosen_backend is None
    rnn(torch.randn(5, 2, 3))
    assert rnn.chosen_backend == "aten"


def test_a_named_backend_is_the_chosen_one(backend: str, cell: str, make_pair: Any) -> None:
    _, ours = make_pair(cell, backend, 3, 4)
    ours(torch.randn(5, 2, 3))
    assert ours.chosen_backend == backend


@pytest.mark.parametrize("name", ["cudnn", "graphed"])
def test_a_backend_that_refuses_is_not_replaced(name: str) -> None:
    with pytest.raises(lk.Unsupported, match=f"backend '{name}': .* CUDA device"):
        lk.LSTM(3, 4, backend=name)(torch.randn(5, 2, 3))


def test_it_prints_its_backend() -> None:
    assert repr(lk.LSTM(3, 4, num_layers=2)) == "LSTM(3, 4, num_layers=2, backend='auto')"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_quantization_passes_over_it_with_a_warning() -> None:
    model = torch.nn.Sequential(lk.GRU(3, 4))
    with pytest.warns(UserWarning, match=r"looks only for torch\.nn\.GRU"):
        small = torch.ao.quantization.quantize_dynamic(model, dtype=torch.qint8)
    x = torch.randn(2, 1, 3)
    assert torch.equal(small(x)[0], model(x)[0])


def test_a_weight_of_another_dtype_or_device_is_refused(eager_backend: str) -> None:
    one_off, elsewhere = (lk.LSTM(4, 5, backend=eager_backend) for _ in range(2))
    one_off.weight_hh_l0.data = one_off.weight_hh_l0.data.double()
    for rnn in (one_off, elsewhere.to("meta")):
        with pytest.raises(RuntimeError, match=r"a state or weight is torch\."):
            rnn(torch.randn(3, 2, 4))


@pytest.mark.parametrize("sizes", [[3, 3], [2, 3], [2, 2, 2]], ids=["more", "rise", "less"])
def test_a_packed_input_that_is_none_is_refused(eager_backend: str, sizes: list[int]) -> None:
    spoilt = PackedSequence(torch.randn(5, 4), torch.tensor(sizes))
    with pytest.raises(RuntimeError, match="but its batch sizes sum to"):
        lk.LSTM(4, 5, backend=eager_backend)(spoilt)


def test_another_default_device_is_nothing_to_it(eager_backend: str, assert_same: Any) -> None:
    rnn, x = lk.LSTM(4, 5, backend=eager_backend), torch.randn(3, 2, 4)
    packed = pack_sequence([torch.randn(3, 4), torch.randn(2, 4)])
    resets = torch.tensor([[False, False], [True, False], [False, True]])

    def results() -> dict[str, torch.Tensor]:
        return {"x": rnn(x)[0], "packed": rnn(packed)[0].data, "cut": rnn(x, resets=resets)[0]}

    want = results()
    with torch.device("meta"):
        got = results()
    assert_same(got, want)


def test_a_packed_layer_under_transforms() -> None:
    rnn, x = lk.LSTM(4, 5, backend="naive"), torch.randn(3, 2, 4)
    resets = torch.tensor([[False, False], [True, False], [False, True]])
    _, tangent = torch.func.jvp(lambda x: rnn(x, resets=resets)[0], (x,), (torch.ones_like(x),))
    step = 1e-3
    apart = rnn(x + step, resets=resets)[0] - rnn(x - step, resets=resets)[0]
    assert torch.allclose(tangent, apart / (2 * step), atol=1e-3)
