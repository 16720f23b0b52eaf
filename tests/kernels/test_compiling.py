"""torch.compile: one graph with operators, or one break around a layer; the same numbers."""

import warnings
from types import ModuleType
from typing import Any

import closeness
import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.debugging import aot_eager
from torch._guards import CompileContext
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

import lstm_kernels as lk
from lstm_kernels import compiling
from lstm_kernels.common import operators

T, B, INPUTS, H = 5, 3, 4, 6
SIZES = [(T, B), (8, B), (9, 4), (11, 7), (12, B), (6, 2)]  # steps and sequences

pytestmark = pytest.mark.xdist_group("numba_cpu")


class Graphs:
    """A backend of torch.compile that keeps its graphs, and runs them as they are, or by AOT."""

    def __init__(self, *, aot: bool = True) -> None:
        self._by_compilation: dict[str, torch.fx.GraphModule] = {}
        self._aot = aot

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        # PyTorch may begin again within a compilation.
        self._by_compilation[str(CompileContext.current_compile_id())] = graph
        return aot_eager(graph, inputs) if self._aot else graph

    @property
    def made(self) -> list[torch.fx.GraphModule]:
        """One a compilation, in their order."""
        return list(self._by_compilation.values())

    def operators(self) -> list[str]:
        """Those of ours, in the last graph."""
        names = [str(node.target) for node in self.made[-1].graph.nodes]
        return [name for name in names if name.startswith(f"{operators.NAMESPACE}.")]


class Model(torch.nn.Module):
    """A layer between two others, as in anyone's model."""

    def __init__(self, rnn: torch.nn.Module) -> None:
        super().__init__()
        self.before, self.rnn = torch.nn.Linear(INPUTS, INPUTS), rnn

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.before(x))[0] * 2


@pytest.fixture(autouse=True)
def _nothing_compiled() -> None:
    torch._dynamo.reset()


@pytest.fixture
def operated() -> str:
    """The backend with operators that every machine has."""
    pytest.importorskip("numba")
    return "numba_cpu"


# Without a graph a CPU may multiply bfloat16; in a graph it is computed in float32, and rounded.
BOUND_OF_BFLOAT16 = 0.01


def close(got: Tensor, want: Tensor, bound: float = closeness.LAYER["float32"]) -> None:
    closeness.assert_within(bound, closeness.relative_errors({"": got}, {"": want}))


FORMS = [
    ("lstm", {}),
    ("gru", {"bias": False}),
    ("rnn_tanh", {}),
    ("lstm", {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.5}),
    ("gru", {"num_layers": 2, "bidirectional": True, "dropout": 0.5}),
]


@pytest.mark.parametrize("given", [False, True], ids=["no-states", "states"])
@pytest.mark.parametrize(("cell", "settings"), FORMS)
def test_a_layer_is_one_graph_for_any_sizes(
    operated: str, make_pair: Any, cell: str, settings: dict[str, Any], given: bool
) -> None:
    theirs, ours = make_pair(cell, operated, INPUTS, H, **settings)
    graphs = Graphs()
    compiled = torch.compile(ours, backend=graphs, fullgraph=True)
    rows = ours.num_layers * (2 if ours.bidirectional else 1)
    for steps, batch in SIZES:
        shape = (batch, steps) if ours.batch_first else (steps, batch)
        x = torch.randn(*shape, INPUTS)
        states = tuple(torch.randn(rows, batch, H) for _ in range(2 if cell == "lstm" else 1))
        results = []
        for module in (compiled, theirs):
            torch.manual_seed(0)  # of dropout
            leaves = [tensor.clone().requires_grad_() for tensor in (x, *states)]
            hx = (leaves[1:] if cell == "lstm" else leaves[1]) if given else None
            y, last = module(leaves[0], tuple(hx) if isinstance(hx, list) else hx)
            last = last if isinstance(last, tuple) else (last,)
            wanted = [*leaves[: len(leaves) if given else 1], *module.parameters()]
            loss = sum(out.pow(2).sum() * (k + 1) for k, out in enumerate((y, *last)))
            results.append((y, *last, *torch.autograd.grad(loss, wanted)))
        for got, want in zip(*results, strict=True):
            close(got, want)
    # One for the first sizes, one for any T, and one for any B: PyTorch's own steps.
    assert len(graphs.made) == 3
    assert len(graphs.operators()) == ours.num_layers


def test_every_backend_with_operators_is_in_the_graph(
    operator_backend: str, make_pair: Any
) -> None:
    theirs, ours = make_pair("lstm", operator_backend, INPUTS, H, bidirectional=True)
    graphs = Graphs()
    compiled = torch.compile(ours, backend=graphs, fullgraph=True)
    x, results = torch.randn(2, B, INPUTS), []
    for module in (compiled, theirs):
        y, (_, c) = module(x)
        loss = y.pow(2).sum() + c.pow(3).sum()
        results.append((y, c, *torch.autograd.grad(loss, list(module.parameters()))))
    for got, want in zip(*results, strict=True):
        close(got, want)
    assert graphs.operators() == [f"{operators.NAMESPACE}.{operator_backend}_forward"]


def test_sizes_that_are_dynamic_from_the_start_are_one_graph(operated: str) -> None:
    graphs, model = Graphs(), Model(lk.LSTM(INPUTS, H, num_layers=2, backend=operated))
    compiled = torch.compile(model, backend=graphs, fullgraph=True, dynamic=True)
    for steps, batch in SIZES:
        x = torch.randn(steps, batch, INPUTS)
        close(compiled(x), model(x))
        compiled(x).sum().backward()
    assert len(graphs.made) == 1


def test_no_number_is_read_out_of_a_tensor(operated: str) -> None:
    graphs, rnn = Graphs(), lk.GRU(INPUTS, H, bidirectional=True, backend=operated)
    torch.compile(rnn, backend=graphs, fullgraph=True)(torch.randn(T, B, INPUTS))
    called = {str(node.target) for node in graphs.made[-1].graph.nodes}
    assert not called & {"item", "tolist", "_local_scalar_dense", "aten._local_scalar_dense"}


@pytest.mark.parametrize("given", [False, True])
def test_an_unbatched_input(operated: str, make_pair: Any, given: bool) -> None:
    theirs, ours = make_pair("lstm", operated, INPUTS, H, batch_first=True)
    states = (torch.randn(1, H), torch.randn(1, H)) if given else None
    compiled = torch.compile(ours, backend=Graphs(), fullgraph=True)
    for steps in (T, T + 2, T + 5):
        x = torch.randn(steps, INPUTS)
        for got, want in zip(flat(compiled(x, states)), flat(theirs(x, states)), strict=True):
            close(got, want)


def flat(outputs: Any) -> list[Tensor]:
    y, last = outputs
    return [y, *(last if isinstance(last, tuple) else (last,))]


def test_states_in_a_list_and_another_backend(operated: str) -> None:
    rnn, x, h = lk.LSTM(INPUTS, H, backend=operated), torch.randn(T, B, INPUTS), torch.ones(1, B, H)
    graphs = Graphs()
    compiled = torch.compile(rnn, backend=graphs)
    close(compiled(x, [h, h])[0], rnn(x, (h, h))[0])
    assert (len(graphs.made), rnn.chosen_backend) == (1, operated)
    rnn.backend = "naive"
    y, _ = compiled(x, (h, h))
    assert (len(graphs.made), rnn.chosen_backend) == (1, "naive")
    close(y, rnn(x, (h, h))[0])


def test_hooks_subclasses_parametrizations_and_checkpoints(operated: str) -> None:
    class Narrow(lk.LSTM):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[0]

    rnn, x = Narrow(INPUTS, H, backend=operated), torch.randn(T, B, INPUTS, requires_grad=True)
    torch.nn.utils.parametrizations.weight_norm(rnn, "weight_hh_l0")
    rnn.register_forward_hook(lambda _, __, y: y * 2)

    def run(x: Tensor) -> Tensor:
        return checkpoint(lambda x: rnn(x), x, use_reentrant=False)

    results = []
    for call in (torch.compile(run, backend=Graphs(), fullgraph=True), run):
        y = call(x)
        results.append((y, *torch.autograd.grad(y.pow(2).sum(), [x, *rnn.parameters()])))
    for got, want in zip(*results, strict=True):
        close(got, want)


def test_parameters_that_need_no_gradient_get_none(operated: str) -> None:
    rnn, x = lk.LSTM(INPUTS, H, num_layers=2, backend=operated), torch.randn(T, B, INPUTS)
    for name in ("weight_ih_l0", "bias_hh_l1"):
        rnn.get_parameter(name).requires_grad_(False)
    results = []
    for call in (torch.compile(rnn, backend=Graphs(), fullgraph=True), rnn):
        rnn.zero_grad()
        call(x)[0].pow(2).sum().backward()
        results.append({name: p.grad for name, p in rnn.named_parameters()})
    for name, want in results[1].items():
        if name in ("weight_ih_l0", "bias_hh_l1"):
            assert results[0][name] is None
        else:
            close(results[0][name], want)


def test_mistakes_raise_what_they_raise_without_a_graph(operated: str) -> None:
    rnn = lk.LSTM(INPUTS, H, backend=operated)
    compiled, x = torch.compile(rnn, backend=Graphs()), torch.randn(T, B, INPUTS)
    states = torch.zeros(1, B + 1, H), torch.zeros(1, B + 1, H)
    for arguments in ((x[..., :2],), (x.double(),), (x, states), (x[:0],), (x.bfloat16(),)):
        with pytest.raises((RuntimeError, ValueError)) as raised:
            rnn(*arguments)
        with pytest.raises(type(raised.value)):
            compiled(*arguments)


def test_what_is_computed_in_float32_is_so_in_a_graph(operated: str) -> None:
    rnn, x = lk.LSTM(INPUTS, H, backend=operated).bfloat16(), torch.randn(T, B, INPUTS).bfloat16()
    graphs = Graphs()
    y, _ = torch.compile(rnn, backend=graphs, fullgraph=True)(x)
    assert y.dtype is torch.bfloat16
    close(y.float(), rnn(x)[0].float(), BOUND_OF_BFLOAT16)
    assert graphs.operators()


def test_a_projection_is_left_alone(operated: str) -> None:
    rnn, x = lk.LSTM(INPUTS, H, proj_size=2, backend=operated), torch.randn(T, B, INPUTS)
    graphs = Graphs()
    close(torch.compile(rnn, backend=graphs)(x)[0], rnn(x)[0])
    assert not graphs.made


def test_without_gradients_nothing_is_saved(operated: str) -> None:
    graphs, rnn = Graphs(), lk.LSTM(INPUTS, H, backend=operated)
    compiled = torch.compile(rnn, backend=graphs, fullgraph=True)
    saves = []
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            compiled(torch.randn(T, B, INPUTS))
        (node,) = (n for n in graphs.made[-1].graph.nodes if "numba_cpu" in str(n.target))
        saves.append(node.args[5])
    assert saves == [True, False]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_autocast_is_as_it_is_without_a_graph(operated: str, make_pair: Any, cell: str) -> None:
    _, ours = make_pair(cell, operated, INPUTS, H)
    graphs = Graphs()
    compiled = torch.compile(ours, backend=graphs, fullgraph=True)
    x = torch.randn(T, B, INPUTS)
    with torch.autocast("cpu", torch.bfloat16):
        for given in (x, x.bfloat16()):
            for got, want in zip(flat(compiled(given)), flat(ours(given)), strict=True):
                assert got.dtype is want.dtype
                close(got, want, BOUND_OF_BFLOAT16)
    assert graphs.operators()


def test_functions_are_operators_too(operated: str) -> None:
    weights = torch.randn(4 * H, INPUTS), torch.randn(4 * H, H)
    x, h = torch.randn(T, B, INPUTS), torch.randn(B, H)
    for backend, fullgraph in ((operated, True), ("naive", False)):

        def run(x: Tensor, backend: str = backend) -> Tensor:
            return lk.lstm(x + 1, h, h, *weights, backend=backend)[0] * 2

        graphs = Graphs()
        close(torch.compile(run, backend=graphs, fullgraph=fullgraph)(x), run(x))
        assert len(graphs.made) == (1 if fullgraph else 2)


def test_parameters_given_in_a_call_are_those_used(operated: str) -> None:
    rnn, x = lk.LSTM(INPUTS, H, backend=operated), torch.randn(T, B, INPUTS)
    others = {name: 2 * p.detach() for name, p in rnn.named_parameters()}

    def run(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(rnn, parameters, (x,))[0]

    close(torch.compile(run, backend=Graphs(), fullgraph=True)(others), run(others))


@pytest.mark.parametrize("backend_name", ["auto", "aten", "naive", "per_gate"])
def test_any_other_layer_is_left_alone(backend_name: str) -> None:
    graphs, model = Graphs(aot=False), Model(lk.LSTM(INPUTS, H, backend=backend_name))
    compiled = torch.compile(model, backend=graphs)
    for steps, batch in SIZES:
        x = torch.randn(steps, batch, INPUTS)
        close(compiled(x), model(x))
        compiled(x).sum().backward()
    # What stands before the layer and after it, and each of PyTorch's steps to any sizes of those.
    targets = {str(node.target) for graph in graphs.made for node in graph.graph.nodes}
    assert not any("lstm" in target for target in targets)
    calls = [[n.op for n in graph.graph.nodes].count("call_function") for graph in graphs.made]
    assert max(calls) == 1
    assert len(graphs.made) <= 6
    assert model.rnn.weight_hh_l0.grad.norm() > 0
    explained = torch._dynamo.explain(model)(torch.randn(T, B, INPUTS))
    assert (explained.graph_count, explained.graph_break_count) == (2, 1)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="no operators for this call"):
        torch.compile(model, backend="eager", fullgraph=True)(torch.randn(T, B, INPUTS))


def test_a_layer_by_itself_that_is_left_alone_is_no_graph() -> None:
    graphs, rnn = Graphs(), lk.LSTM(INPUTS, H, backend="naive")
    compiled, x = torch.compile(rnn, backend=graphs), torch.randn(T, B, INPUTS)
    close(compiled(x)[0], rnn(x)[0])
    assert graphs.made == []


def test_packed_input_is_left_alone(operated: str) -> None:
    graphs, rnn = Graphs(), lk.LSTM(INPUTS, H, backend=operated)
    lengths = torch.tensor([T, 2, 3])

    def run(x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        return pad_packed_sequence(rnn(packed)[0])[0]

    x = torch.randn(T, B, INPUTS)
    close(torch.compile(run, backend=graphs)(x), run(x))


def test_pytorchs_own_layers_are_as_they_were() -> None:
    model = torch.compile(Model(torch.nn.LSTM(INPUTS, H)), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="Attempted to wrap RNN"):
        model(torch.randn(T, B, INPUTS))
    assert torch._dynamo.config.allow_rnn is False


def test_a_second_derivative_is_right_or_refused(operated: str) -> None:
    def penalty(model: Any, rnn: torch.nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        (slope,) = torch.autograd.grad(model(x)[0].pow(2).sum(), x, create_graph=True)
        return torch.autograd.grad(slope.pow(2).sum(), list(rnn.parameters()))

    rnn, x = lk.LSTM(INPUTS, H, backend=operated), torch.randn(T, B, INPUTS, requires_grad=True)
    want = penalty(rnn, rnn, x)
    for got, wanted in zip(
        penalty(torch.compile(rnn, backend=Graphs(aot=False), fullgraph=True), rnn, x),
        want,
        strict=True,
    ):
        close(got, wanted)
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        penalty(torch.compile(rnn, backend=Graphs(), fullgraph=True), rnn, x)


@pytest.mark.filterwarnings("ignore:torch.func's:UserWarning")
@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp"])
def test_no_transform_goes_through_an_operator(operated: str, transform: str) -> None:
    rnn, x = lk.LSTM(INPUTS, H, backend=operated), torch.randn(T, B, INPUTS)

    def run(x: Tensor) -> Tensor:
        if transform == "jvp":
            return torch.func.jvp(lambda x: rnn(x)[0], (x,), (torch.ones_like(x),))[1]
        if transform == "vmap":
            return torch.func.vmap(lambda x: rnn(x)[0])(torch.stack([x, 2 * x]))
        return torch.func.grad(lambda x: rnn(x)[0].pow(2).sum())(x)

    close(torch.compile(run, backend=Graphs())(x), run(x))


def test_a_dynamo_with_other_insides_is_left_as_it_is() -> None:
    other = ModuleType("torch._dynamo")
    other.disable, other.config = None, ModuleType("torch._dynamo.config")
    with pytest.warns(UserWarning, match=r"newer than this lstm_kernels supports \(.*allow_rnn"):
        compiling._look_into(lk.LSTM, other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiling._leave_whole([lk.lstm], other)  # it is said once


def test_selective_checkpointing_goes_through_operators(operated: str) -> None:
    from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

    rnn, x = lk.LSTM(INPUTS, H, backend=operated), torch.randn(T, B, INPUTS, requires_grad=True)

    def policy(*_: Any, **__: Any) -> CheckpointPolicy:
        return CheckpointPolicy.PREFER_RECOMPUTE

    def contexts() -> Any:
        return create_selective_checkpoint_contexts(policy)

    y = checkpoint(lambda x: rnn(x)[0], x, use_reentrant=False, context_fn=contexts)
    (got,) = torch.autograd.grad(y.sum(), x)
    (want,) = torch.autograd.grad(rnn(x)[0].sum(), x)
    close(got, want)
