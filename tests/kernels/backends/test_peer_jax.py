"""jax: its gradients, what of PyTorch's memory it may hold, and its threads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lstm_kernels as lk
from lstm_kernels import registry
from lstm_kernels.stack import run

pytest.importorskip("jax", reason="the jax backend needs jax")

NAMES = ("y", "h_n", "c_n")


def results(on, problem, given, lengths=None):
    """Outputs and every gradient, by name."""
    flat = [t for one in given["weights"] for t in one if t is not None]
    leaves = [given["x"], given["h0"], *([] if given["c0"] is None else [given["c0"]]), *flat]
    made = run(registry.load(on), **given, problem=problem, lengths=lengths)
    made = [out for out in made if out is not None]
    loss = sum((out * torch.linspace(-1, 2, out.numel()).view_as(out)).sum() for out in made)
    found = torch.autograd.grad(loss, leaves)
    return dict(zip(NAMES, made, strict=False)) | dict(enumerate(found))


@pytest.mark.parametrize(
    ("cell", "fields"),
    [
        ("lstm", {"bidirectional": True, "lengths": "uniform:0:6", "batch": 5}),
        ("lstm", {"proj_size": 2, "num_layers": 2, "bias": False}),
        ("gru", {"bidirectional": True}),
        ("slstm", {"lengths": "uniform:1:6"}),
        ("lstm_peephole", {}),
    ],
)
def test_outputs_and_gradients_are_naives(cell, fields, make_layer, assert_same):
    problem, given = make_layer(cell, **fields | {"dtype": "float32"})
    lengths = None
    if problem.lengths != "full":
        lengths = torch.tensor(problem.sequence_lengths())
        for row, steps in enumerate(lengths):
            given["x"].data[steps:, row] = float("nan")
    found = results("jax", problem, given, lengths)
    assert_same(found, results("naive", problem, given, lengths))


def lstm() -> tuple[lk.LSTM, Tensor]:
    return lk.LSTM(3, 5, backend="jax"), torch.randn(6, 4, 3)


def test_gradients_alone_that_are_asked_for():
    module, x = lstm()
    module.requires_grad_(False)
    module.bias_hh_l0.requires_grad_()
    module(x)[0].sum().backward()
    assert module.bias_hh_l0.grad is not None
    assert module.weight_hh_l0.grad is None


@pytest.mark.parametrize("which", ["input", "output", "weight"])
def test_a_change_in_place_before_the_backward_is_an_error(which):
    module, x = lstm()
    y, _ = module(x)
    with torch.no_grad():
        {"input": x, "output": y, "weight": module.weight_hh_l0}[which].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_backward_runs_again_only_where_it_was_to_be_kept():
    module, x = lstm()
    y, _ = module(x)
    loss = y.square().sum()
    loss.backward(retain_graph=True)
    first = module.weight_hh_l0.grad.clone()
    loss.backward()
    torch.testing.assert_close(module.weight_hh_l0.grad, 2 * first)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_weights_are_never_copies():
    module, x = lstm()
    plain = torch.nn.LSTM(3, 5)
    plain.load_state_dict(module.state_dict())
    for _ in range(2):
        torch.testing.assert_close(module(x)[0], plain(x)[0])
        for each in (module, plain):
            each.weight_hh_l0.data.mul_(-1)  # uncounted


def python(code, **environment):
    variables = {"PYTHONPATH": str(Path(lk.__file__).parents[1]), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=variables | environment,
    )
    return done.stdout


def test_threads_are_torchs_at_the_first_layer_and_never_more():
    code = """
import torch
torch.set_num_threads(1)
import lstm_kernels as lk
from lstm_kernels import registry
problem = lk.Problem("lstm", 2, 1, 3, 4)
torch.set_num_threads(2)
print(registry.unsupported("jax", problem, "cpu"))
torch.set_num_threads(1)
print(registry.unsupported("jax", problem, "cpu"))
"""
    before, after = python(code).splitlines()
    assert before == "None"
    assert after.startswith("XLA made 2 threads when it began, and torch has 1 now; set torch's")


def test_where_jax_began_before_it_is_told_how_many_threads_it_has():
    code = """
import jax, torch
jax.devices()
import lstm_kernels as lk
from lstm_kernels import registry
torch.set_num_threads(2)
print(registry.unsupported("jax", lk.Problem("lstm", 2, 1, 3, 4), "cpu"))
"""
    assert python(code, NPROC="1").strip() == "None"
    assert "XLA made 3 threads when it began, and torch has 2" in python(code, NPROC="3")
    cores = f"XLA made {len(os.sched_getaffinity(0))} threads when it began"
    found = python(code.replace("set_num_threads(2)", "set_num_threads(1)"), NPROC="abc").strip()
    assert found == "None" or found.startswith(cores), "as if it were not set, which is XLA's way"
