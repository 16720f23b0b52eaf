import pytest
import torch

from lstm_harness.model import oracle_cost
from lstm_harness.worker import oracle
from lstm_harness.worker.inputs import make_inputs
from lstm_harness.worker.oracle import FIRST_SET, LAST_SET
from lstm_harness.worker.poison import can_poison, poisoned_memory
from lstm_kernels import Problem

PROBLEM = Problem("lstm", 4, 6, 3, 5, lengths="uniform:1:4")
BATCHED = ("y", "h_n", "c_n", "d_x", "d_h0", "d_c0")


def test_answer_is_what_torch_computes_in_float64():
    problem = Problem("lstm", 4, 2, 3, 5)
    found = oracle.answer(problem, 3, "cpu").sets[FIRST_SET]
    inputs = make_inputs(problem, 3, FIRST_SET, "cpu")
    lstm = torch.nn.LSTM(3, 5, dtype=torch.float64)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    with torch.no_grad():
        for name, value in zip(names, inputs.parameters(), strict=True):
            getattr(lstm, name).copy_(value)
    x = inputs.x.double().requires_grad_()
    y, (h_n, c_n) = lstm(x, (inputs.h0.double(), inputs.c0.double()))
    starts = [gradient.double() for gradient in inputs.d_outputs()]
    torch.autograd.backward((y, h_n, c_n), starts)
    for name, expected in (("y", y), ("h_n", h_n), ("c_n", c_n), ("d_x", x.grad)):
        assert torch.allclose(found[name][0], expected, rtol=1e-12, atol=1e-12)
    for name, parameter in zip(("w_ih", "w_hh", "b_ih", "b_hh"), names, strict=True):
        gradient = getattr(lstm, parameter).grad
        assert torch.allclose(found[f"d_{name}"][0], gradient, rtol=1e-12, atol=1e-12)


def test_rows_are_a_part_of_the_whole_answer(monkeypatch):
    whole = oracle.answer(PROBLEM, 0, "cpu")
    assert whole.rows is None
    monkeypatch.setattr(oracle_cost, "MOST_FLOPS", {"cpu": 1.0})
    part = oracle.answer(PROBLEM, 0, "cpu")
    assert part.rows == (0, 3, 5)
    for index in (FIRST_SET, LAST_SET):
        for name in ("y", "h_n", "c_n"):
            rows = whole.sets[index][name][0][:, list(part.rows)]
            assert torch.allclose(part.sets[index][name][0], rows, rtol=1e-13, atol=0)


def test_few_rows_are_answered_whole(monkeypatch):
    monkeypatch.setattr(oracle_cost, "MOST_FLOPS", {"cpu": 1.0})
    assert oracle_cost.rows_to_answer(Problem("lstm", 4, 3, 3, 5), "cpu") is None


def test_answer_survives_its_file(tmp_path):
    made = oracle.answer(PROBLEM, 0, "cpu")
    oracle.save(made, tmp_path / "answer.pt")
    read = oracle.load(tmp_path / "answer.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["answer.pt"]
    assert read.rows == made.rows
    for index, tensors in made.sets.items():
        for name, group in tensors.items():
            pairs = zip(group, read.sets[index][name], strict=True)
            assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.skipif(not can_poison("cpu"), reason="malloc here is not glibc's")
@pytest.mark.parametrize("elements", [8, 100, 10_000, 1_000_000])
def test_fresh_memory_is_garbage_only_while_poisoned(elements):
    with poisoned_memory("cpu"):
        poisoned = [torch.empty(elements) for _ in range(3)]
    # Of a small block the allocator keeps the first 16 bytes for itself.
    assert all((tensor[4:].abs() > 1e37).all() for tensor in poisoned)
    del poisoned
    torch.empty(elements + 1000).zero_()
    assert torch.zeros(elements).sum() == 0
