"""What surrounds the CUDA graph of a kernel a step: copies in and out, keys, what is let go.

The graph itself needs a GPU. Here a capture notes the launches, and a replay makes them again over
the same tensors. What is right without a graph is test_fused_triton's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import closeness
import pytest
import torch
from small_layers import only
from torch import Tensor

from lstm_kernels.common.captured import capture_stream
from lstm_kernels.gpu.launching import Launch
from lstm_kernels.stack import Weights

pytest.importorskip("triton", reason="the Triton backend needs triton")
fused_triton = pytest.importorskip("lstm_kernels.backends.fused_triton")
parameters = pytest.importorskip("lstm_kernels.backends.fused_triton.parameters")
replay = pytest.importorskip("lstm_kernels.backends.fused_triton.replay")

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="stands in for a GPU's graphs; here are real ones"
)

RAGGED = torch.tensor([2, 1, 0, 2])
HAS_GRAPHS = replay._has_graphs


class NotedGraph:
    """As a CUDA graph: captured launches do not run then, but at every replay."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def replay(self) -> None:
        for launch in self.launches:
            launch.run()


@pytest.fixture(autouse=True)
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[NotedGraph]]:
    """Every graph captured so far; layers run a kernel a step, whatever their size."""
    graphs: list[NotedGraph] = []
    capturing: list[NotedGraph] = []
    has_run: list[Launch] = []
    really_run = Launch.run

    def run(launch: Launch) -> None:
        if capturing:
            assert any(launch is one for one in has_run), "a capture cannot compile"
            capturing[-1].launches.append(launch)
        else:
            has_run.append(launch)
            really_run(launch)

    @contextmanager
    def graph(into: NotedGraph, *, stream: str, **_: str) -> Iterator[None]:
        assert stream == "a stream of cpu", "each device captures on its own"
        graphs.append(into)
        capturing.append(into)
        yield
        capturing.pop()

    monkeypatch.setattr(Launch, "run", run)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", NotedGraph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"a stream of {device}")
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(replay, "_has_graphs", lambda _: True)
    monkeypatch.setattr(replay, "_graphs", type(replay._graphs)())
    monkeypatch.setattr(replay, "_in_place", type(replay._in_place)())
    capture_stream.cache_clear()
    with only("triton", "streamed"):
        yield graphs


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """Fill memory that nobody wrote with NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.ones(3).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def make_small(make_layer: Any) -> Callable[..., Any]:
    """A layer small enough for the interpreter."""

    def make(cell: str, **fields: Any) -> Any:
        return make_layer(cell, **{"seq_len": 2, "dtype": "float32"} | fields)

    return make


def infer(problem: Any, arguments: Any, lengths: Tensor | None = None) -> dict[str, Tensor]:
    with torch.no_grad():
        y, h_n, _ = fused_triton.layer(**arguments, problem=problem, lengths=lengths)
    return {"y": y, "h_n": h_n}


def train(
    problem: Any, arguments: Any, lengths: Tensor | None = None, **options: Any
) -> dict[str, Tensor]:
    """Outputs and all gradients; fresh leaves, so that nothing but weights stays where it was."""
    inputs = {name: arguments[name] for name in ("x", "h0", "c0") if arguments[name] is not None}
    inputs = {name: t.detach().clone().requires_grad_() for name, t in inputs.items()}
    leaves = [*inputs.values(), *(w for ws in arguments["weights"] for w in ws if w is not None)]
    outputs = fused_triton.layer(**arguments | inputs, problem=problem, lengths=lengths, **options)
    present = [output for output in outputs if output is not None]
    loss = sum((y * torch.arange(1.0, y.numel() + 1).view_as(y)).sum() for y in present)
    return dict(enumerate([*present, *torch.autograd.grad(loss, leaves)]))


def directly(
    run: Callable[..., dict[str, Tensor]], *arguments: Any, **options: Any
) -> dict[str, Tensor]:
    """The same from launches made one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "_has_graphs", lambda _: False)
        return run(*arguments, **options)


CALLED = [("lstm", RAGGED), ("gru", None), ("rnn_tanh", RAGGED), ("rnn_relu", None)]
OTHERS = [("lstm", None), ("gru", RAGGED), ("rnn_tanh", None), ("rnn_relu", RAGGED)]


@pytest.mark.parametrize(
    ("cell", "lengths"),
    CALLED + [pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS],
    ids=lambda value: value if isinstance(value, str) else "full" if value is None else "ragged",
)
def test_call_after_call_equals_direct_launches(
    cell: str, lengths: Tensor | None, make_small: Any, assert_same: Any, captured: Any
) -> None:
    problem, arguments = make_small(cell, bidirectional=True)
    for _ in range(3):
        expected = directly(train, problem, arguments, lengths)
        assert_same(train(problem, arguments, lengths), expected, closeness.SAME["float32"])
        with torch.no_grad():
            for name in ("x", "h0", "c0"):
                if arguments[name] is not None:
                    arguments[name] = arguments[name] + 0.1
            for w in arguments["weights"]:
                # In place, as an optimizer does.
                w.w_hh.mul_(0.9)
                w.b_hh.add_(0.1)
    assert len(captured) == 2, "one for the forward and one for the backward"
    T = problem.seq_len
    assert [len(graph.launches) for graph in captured] == [T, T + 1]


def test_results_outlive_the_next_call(make_small: Any) -> None:
    problem, arguments = make_small("lstm")
    first = train(problem, arguments)
    kept = {name: tensor.clone() for name, tensor in first.items()}
    moved = train(problem, arguments | {"x": arguments["x"] + 1})
    assert not torch.equal(moved[0], kept[0])
    assert all(torch.equal(first[name], kept[name]) for name in first)


def test_two_forwards_may_wait_for_their_backwards(make_small: Any, assert_same: Any) -> None:
    problem, arguments = make_small("lstm")
    drawn = [arguments["x"].detach() + shift for shift in (0, 1)]

    def both_then_back() -> dict[str, Tensor]:
        leaves = [x.clone().requires_grad_() for x in drawn]
        outputs = [fused_triton.layer(**arguments | {"x": x}, problem=problem) for x in leaves]
        gradients = [
            torch.autograd.grad(y.square().sum(), x)[0]
            for x, (y, _, _) in zip(leaves, outputs, strict=True)
        ]
        return dict(enumerate(gradients))

    assert_same(both_then_back(), directly(both_then_back), closeness.SAME["float32"])


@pytest.mark.parametrize("cell", ["lstm", "rnn_tanh"])
def test_lengths_may_change_between_calls(
    cell: str, make_small: Any, assert_same: Any, captured: Any
) -> None:
    problem, arguments = make_small(cell, bidirectional=True)
    for lengths in ([2, 2, 2, 2], [0, 2, 1, 1], [1, 2, 0, 2]):
        got = train(problem, arguments, torch.tensor(lengths))
        for sequence, length in enumerate(lengths):
            assert not got[0][length:, sequence].any(), "y past a sequence's end"
        expected = directly(train, problem, arguments, torch.tensor(lengths))
        assert_same(got, expected, closeness.SAME["float32"])
    assert len(captured) == 2


def changed(what: str, problem: Any, arguments: Any) -> tuple[Any, Any, Tensor | None]:
    """The layer's problem, arguments and lengths, one thing about them another."""
    x, h0 = arguments["x"], arguments["h0"]
    moved = tuple(Weights(*(w + 0.1 for w in ws[:4])) for ws in arguments["weights"])
    return {
        "steps": (problem, arguments | {"x": x[:1]}, None),
        "sequences": (problem, arguments | {"x": x[:, :3], "h0": h0[:, :3]}, None),
        "weights": (problem, arguments | {"weights": moved}, None),
        "lengths": (problem, arguments, RAGGED),
        # The same tensors, and another kernel.
        "cell": (replace(problem, cell="rnn_relu"), arguments, None),
    }[what]


@pytest.mark.parametrize("what", ["steps", "sequences", "weights", "lengths", "cell"])
def test_captured_again_for_other(
    what: str, make_small: Any, assert_same: Any, captured: Any
) -> None:
    layer = make_small("rnn_tanh")
    infer(*layer)
    other = changed(what, *layer)
    expected = directly(infer, *other)
    for _ in range(2):
        assert_same(infer(*other), expected, closeness.SAME["float32"])
    assert len(captured) == 2
    infer(*layer)
    assert len(captured) == 2, "the first graph is still there"


def test_a_backward_from_saved_gates_is_not_one_that_makes_them_again(
    make_small: Any, assert_same: Any
) -> None:
    problem, arguments = make_small("gru")
    expected = directly(train, problem, arguments)
    for recompute in (False, True, False):
        assert_same(train(problem, arguments, recompute=recompute), expected)


def test_the_graph_not_used_for_longest_is_let_go(
    make_small: Any, monkeypatch: pytest.MonkeyPatch, captured: Any
) -> None:
    monkeypatch.setattr(replay, "MAX_GRAPHS", 2)
    layers = {steps: make_small("gru", seq_len=steps) for steps in (1, 2, 3)}

    def captures(steps: int) -> bool:
        before = len(captured)
        infer(*layers[steps])
        return len(captured) > before

    # 3 takes the place of 2, since 1 was used after it.
    assert [captures(steps) for steps in (1, 2, 1, 3)] == [True, True, False, True]
    assert len(replay._graphs) == 2
    assert [captures(steps) for steps in (1, 3, 2)] == [False, False, True]


@pytest.mark.parametrize("are_kept", [True, False], ids=["new places", "places may come again"])
def test_weights_that_are_elsewhere_at_every_call_are_copied_into_one_graph(
    are_kept: bool,
    make_small: Any,
    assert_same: Any,
    monkeypatch: pytest.MonkeyPatch,
    captured: Any,
) -> None:
    monkeypatch.setattr(replay, "MOST_IN_PLACE", 2)
    problem, arguments = make_small("lstm")
    kept = []
    for call in range(6):
        scale = 1.0 + 0.1 * call
        moved = tuple(
            Weights._make(w if w is None else (w.detach() * scale).requires_grad_() for w in ws)
            for ws in arguments["weights"]
        )
        # What is kept is not given to the next call: every address is new.
        kept += [moved] * are_kept
        there = arguments | {"weights": moved}
        assert_same(train(problem, there), directly(train, problem, there))
    # Two places of a forward and of a backward, then one graph for all others.
    assert len(captured) == 2 * 3 if are_kept else len(captured) <= 2 * 3
    for moved in kept[:1]:
        there = arguments | {"weights": moved}
        assert_same(train(problem, there), directly(train, problem, there))
        assert len(captured) == 2 * 3


def test_launches_are_made_directly_where_a_caller_captures(
    make_small: Any, assert_same: Any, monkeypatch: pytest.MonkeyPatch, captured: Any
) -> None:
    problem, arguments = make_small("lstm")
    expected = directly(train, problem, arguments)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert_same(train(problem, arguments), expected, closeness.SAME["float32"])
    assert not captured
    assert not replay._graphs


def test_graphs_are_a_gpu_s() -> None:
    assert HAS_GRAPHS(torch.device("cuda", 1))
    assert not HAS_GRAPHS(torch.device("cpu"))


def test_a_graph_made_in_inference_mode_serves_training(
    make_small: Any, assert_same: Any, captured: Any
) -> None:
    problem, arguments = make_small("rnn_tanh")
    expected = directly(train, problem, arguments)
    with torch.inference_mode():
        infer(problem, arguments)
    assert_same(train(problem, arguments), expected)
