"""Tracers and torch.func with our modules in a model: as torch.nn's, or better."""

from typing import Any

import closeness
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.common import operators

T, B, INPUTS, H = 5, 3, 4, 6


class Model(torch.nn.Module):
    """A layer between two others, as in anyone's model."""

    def __init__(self, rnn: torch.nn.Module) -> None:
        super().__init__()
        self.before, self.rnn, self.after = (
            torch.nn.Linear(INPUTS, INPUTS),
            rnn,
            torch.nn.Linear(H, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.rnn(self.before(x))[0])


@pytest.fixture
def x() -> Tensor:
    return torch.randn(T, B, INPUTS)


@pytest.fixture
def models(make_pair: Any) -> Any:
    """The same model with torch.nn's layer and with ours on a backend."""

    def make(backend: str, cell: str = "lstm", **settings: Any) -> tuple[Model, Model]:
        theirs, ours = (Model(rnn) for rnn in make_pair(cell, backend, INPUTS, H, **settings))
        ours.load_state_dict(theirs.state_dict())
        return theirs, ours

    return make


def close(got: Tensor, want: Tensor) -> None:
    closeness.assert_within(
        closeness.LAYER["float32"], closeness.relative_errors({"": got}, {"": want})
    )


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_tracers_see_torch_nns_own_path(models: Any, x: Tensor, cell: str) -> None:
    theirs, ours = models("numba_cpu", cell)
    traced = torch.jit.trace(ours, (x,))
    close(traced(x), theirs(x))
    function = {"lstm": "aten::lstm", "gru": "aten::gru", "rnn_tanh": "aten::rnn_tanh"}[cell]
    assert function in str(traced.inlined_graph)
    exported = torch.export.export(ours, (x,)).module()
    close(exported(x), theirs(x))
    shapes = ours.to("meta")(x.to("meta"))
    assert (shapes.shape, shapes.is_meta) == (theirs(x).shape, True)


@pytest.mark.parametrize(
    ("cell", "settings"),
    [("lstm", {}), ("gru", {"num_layers": 2, "batch_first": True}), ("rnn_tanh", {})],
)
def test_torch_export_for_any_length_sees_operators(
    models: Any, x: Tensor, cell: str, settings: dict[str, Any]
) -> None:
    pytest.importorskip("numba")
    theirs, ours = models("numba_cpu", cell, **settings)
    steps, batch = torch.export.Dim("T", min=2, max=64), torch.export.Dim("B", min=2, max=64)
    dims = {1: steps, 0: batch} if settings.get("batch_first") else {0: steps, 1: batch}
    program = torch.export.export(ours, (x,), dynamic_shapes=(dims,))
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count(f"{operators.NAMESPACE}.numba_cpu_forward.default") == ours.rnn.num_layers
    exported = program.module()
    for shape in ((T + 4, B + 2), (B, T)):
        given = torch.randn(*shape, INPUTS)
        close(exported(given), theirs(given))
    exported(given).sum().backward()
    theirs(given).sum().backward()
    close(exported.get_parameter("rnn.weight_hh_l0").grad, theirs.rnn.weight_hh_l0.grad)


def test_torch_export_by_dynamo_sees_torch_nns_own_path(models: Any, x: Tensor) -> None:
    theirs, ours = models("numba_cpu")
    program = torch.export.export(ours, (x,), strict=True)
    assert "aten.lstm.input" in [str(node.target) for node in program.graph.nodes]
    close(program.module()(x), theirs(x))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_relu"])
def test_torch_jit_script_gets_torch_nns_module(models: Any, x: Tensor, cell: str) -> None:
    theirs, ours = models("naive", cell, batch_first=True)
    parameters = dict(ours.named_parameters())
    with pytest.warns(UserWarning, match=r"replaces this module by torch\.nn\.\w+"):
        scripted = torch.jit.script(ours)
    close(scripted(x), theirs(x))
    assert all(found is parameters[name] for name, found in scripted.named_parameters())


def test_torch_fx_sees_one_module(models: Any, x: Tensor) -> None:
    theirs, ours = models("naive")
    graph = torch.fx.symbolic_trace(ours)
    called = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert called == ["before", "rnn", "after"]
    close(graph(x), theirs(x))


def outcomes(model: Model, x: Tensor) -> dict[str, Tensor]:
    """What each transform of torch.func makes of a model."""
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (x,)).pow(2).mean()

    inputs = torch.stack([x, 2 * x])
    ensemble = {name: torch.stack([p, p + 0.1]) for name, p in parameters.items()}
    made = {f"grad {n}": g for n, g in torch.func.grad(loss)(parameters, x).items()}
    made["vmap"] = torch.func.vmap(loss, (None, 0))(parameters, inputs)
    made["vmap of weights"] = torch.func.vmap(loss, (0, None))(ensemble, x)
    for_each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, inputs)
    made |= {f"grad of each {n}": g for n, g in for_each.items()}
    made["jvp"] = torch.func.jvp(model, (x,), (torch.ones_like(x),))[1]
    with forward_ad.dual_level():
        made["forward mode"] = forward_ad.unpack_dual(
            model(forward_ad.make_dual(x, torch.ones_like(x)))
        ).tangent
    return made


@pytest.fixture(scope="module")
def of_naive() -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
    """A model's parameters, an input, and what torch.func makes of it where `naive` runs."""
    torch.manual_seed(0)
    model, x = Model(lk.LSTM(INPUTS, H, backend="naive")), torch.randn(T, B, INPUTS)
    return model.state_dict(), x, outcomes(model, x)


@pytest.mark.filterwarnings("ignore:torch.func's:UserWarning")
def test_torch_func_goes_through_every_backend(of_naive: Any, backend: str) -> None:
    state, x, want = of_naive
    model = Model(lk.LSTM(INPUTS, H, backend=backend))
    model.load_state_dict(state)
    # Of PyTorch's own layer there is a gradient, and no rule for the others.
    named = "auto" if backend == "aten" else backend
    model.rnn.backend = named
    got = outcomes(model, x)
    assert got.keys() == want.keys()
    for name, found in got.items():
        close(found, want[name])


def test_what_is_right_is_what_many_calls_give(of_naive: Any) -> None:
    state, x, got = of_naive
    model = Model(torch.nn.LSTM(INPUTS, H))
    model.load_state_dict(state)

    def loss(x: Tensor) -> Tensor:
        return model(x).pow(2).mean()

    losses = torch.stack([loss(x), loss(2 * x)])
    close(got["vmap"], losses.detach())
    losses[1].backward()
    for name, parameter in model.named_parameters():
        close(got[f"grad of each {name}"][1], parameter.grad)
    step = 1e-3
    change = (model(x + step) - model(x - step)) / (2 * step)
    assert torch.allclose(got["jvp"], change, atol=1e-3)
    assert torch.equal(got["jvp"], got["forward mode"])


@pytest.mark.filterwarnings("ignore:torch.func's:UserWarning")
def test_what_runs_in_its_place_need_not_recompute(of_naive: Any) -> None:
    state, x, want = of_naive
    model = Model(lk.LSTM(INPUTS, H, backend="triton", recompute=True))
    model.load_state_dict(state)
    close(torch.func.jvp(model, (x,), (torch.ones_like(x),))[1], want["jvp"])


def test_who_named_a_kernel_is_told_that_naive_runs_in_its_place(x: Tensor) -> None:
    rnn = lk.LSTM(INPUTS, H, backend="numba_cpu")
    batch = torch.stack([x, x])
    with pytest.warns(
        UserWarning, match="backend 'numba_cpu' does not support torch.func's vmap; naive"
    ):
        torch.func.vmap(lambda x: rnn(x)[0])(batch)
    assert rnn.chosen_backend == "naive"
    rnn(x)
    assert rnn.chosen_backend == "numba_cpu"
    rnn.backend = "auto"
    torch.func.vmap(lambda x: rnn(x)[0])(batch)
    assert rnn.chosen_backend == "naive"
    assert registry.get("aten").transforms == ("grad",)
