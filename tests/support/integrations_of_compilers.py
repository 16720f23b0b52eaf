"""Rows of docs/compatibility.md: compilers, exporters, tracers, of a model with an LSTM in it."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from integrations import B, Column, Found, I, Results, T, Tagger, numbers, of_model, row
from torch import Tensor
from torch.onnx._internal.torchscript_exporter import utils as exporter
from torch.onnx._internal.torchscript_exporter._globals import GLOBALS

MORE = 5
# ONNX's gates are i, o, f, c where PyTorch's are i, f, g, o.
ONNX_ORDER = (0, 3, 1, 2)
OPSET = 17
EVAL = torch.onnx.TrainingMode.EVAL


@row("compilers", "`torch.compile`", slow=True)
def compiled(column: Column) -> Found:
    return _by_dynamo(column)


@row("compilers", "`torch.compile(fullgraph=True)`", slow=True)
def compiled_whole(column: Column) -> Found:
    return _by_dynamo(column, fullgraph=True)


@row("compilers", "`torch.export`", slow=True)
def exported(column: Column) -> Found:
    return _exported(column, None, numbers(T, B, I))


@row("compilers", "`torch.export`, B dynamic", slow=True)
def exported_for_any_batch(column: Column) -> Found:
    return _exported(column, {1: torch.export.Dim("B", min=2, max=64)}, numbers(T, MORE, I))


@row("compilers", "`torch.export`, T dynamic", slow=True)
def exported_for_any_length(column: Column) -> Found:
    return _exported(column, {0: torch.export.Dim("T", min=2, max=64)}, numbers(MORE, B, I))


@row("compilers", "`torch.jit.trace`")
def traced(column: Column) -> Found:
    return _traced(column, numbers(T, B, I))


@row("compilers", "`torch.jit.trace`, run with a larger T")
def traced_then_longer(column: Column) -> Found:
    return _traced(column, numbers(MORE, B, I))


@row("compilers", "`torch.jit.script` of the model")
def scripted(column: Column) -> Found:
    with _quiet():
        script = torch.jit.script(Tagger(column.new()))
    return Found(of_model(script), of_model(Tagger(column.exact())))


@row("compilers", "ONNX's graph by tracing: one `LSTM`")
def onnx_graph(column: Column) -> Found:
    model, exact = Tagger(column.new()).eval(), column.exact()
    with _quiet(), _opset(OPSET), exporter.exporter_context(model, EVAL, False):
        graph, parameters, _ = exporter._model_to_graph(
            model, (numbers(T, B, I),), do_constant_folding=True
        )
    nodes = [node for node in graph.nodes() if node.kind() == "onnx::LSTM"]
    if len(nodes) != 1:
        raise ValueError(f"{len(nodes)} LSTM operators, a graph for this T alone")
    w, r, b = (_initial(value, parameters) for value in list(nodes[0].inputs())[1:4])
    biases = (exact.bias_ih_l0, exact.bias_hh_l0)
    want = {"W": _reordered(exact.weight_ih_l0)[None], "R": _reordered(exact.weight_hh_l0)[None]}
    want["B"] = torch.cat([_reordered(each) for each in biases])[None]
    return Found({"W": w, "R": r, "B": b}, want)


@row("compilers", "`torch.fx.symbolic_trace` of the model")
def symbolically_traced(column: Column) -> Found:
    model = torch.fx.symbolic_trace(Tagger(column.new()))
    return Found(of_model(model), of_model(Tagger(column.exact())))


def _by_dynamo(column: Column, **how: bool) -> Found:
    torch._dynamo.reset()
    model = Tagger(column.new())
    call: Callable[[Tensor], Tensor] = torch.compile(model, **how)
    with _quiet():
        got = of_model(model, call=call)
    return Found(got, of_model(Tagger(column.exact())))


def _exported(column: Column, dynamic: Any, x: Tensor) -> Found:
    """Exported for T steps of B sequences, run with x."""
    shapes = None if dynamic is None else (dynamic,)
    model = Tagger(column.new())
    program = torch.export.export(model, (numbers(T, B, I),), dynamic_shapes=shapes)
    return Found(of_model(program.module(), x), of_model(Tagger(column.exact()), x))


def _traced(column: Column, x: Tensor) -> Found:
    with _quiet():
        trace = torch.jit.trace(Tagger(column.new()), numbers(T, B, I))
    return Found(of_model(trace, x), of_model(Tagger(column.exact()), x))


def _reordered(weight: Tensor) -> Tensor:
    gates = weight.detach().chunk(4)
    return torch.cat([gates[index] for index in ONNX_ORDER])


def _initial(value: Any, parameters: Results) -> Tensor:
    name = value.debugName()
    return parameters[name] if name in parameters else value.node().t("value")


@contextmanager
def _opset(version: int) -> Iterator[None]:
    before = GLOBALS.export_onnx_opset_version
    GLOBALS.export_onnx_opset_version = version
    try:
        yield
    finally:
        GLOBALS.export_onnx_opset_version = before


@contextmanager
def _quiet() -> Iterator[None]:
    """What is deprecated works until it is gone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
