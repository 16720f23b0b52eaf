from dataclasses import replace

import pytest
import torch

from lstm_harness.worker.inputs import cast, make_inputs, only_rows, silence_other_rows
from lstm_kernels import Problem

PROBLEM = Problem("lstm", 5, 3, 4, 6, num_layers=2, bidirectional=True)


def tensors(inputs):
    return (*inputs.per_set(), *inputs.parameters())


def same(one, other):
    return [torch.equal(a, b) for a, b in zip(one, other, strict=True)]


def test_the_same_seed_gives_the_same_numbers_bit_by_bit():
    assert all(same(*(tensors(make_inputs(PROBLEM, 7, 0, "cpu")) for _ in range(2))))


def test_global_random_state_neither_matters_nor_moves():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = make_inputs(PROBLEM, 7, 0, "cpu")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert all(same(tensors(first), tensors(make_inputs(PROBLEM, 7, 0, "cpu"))))


def test_another_seed_gives_other_numbers():
    one, other = (tensors(make_inputs(PROBLEM, seed, 0, "cpu")) for seed in (7, 8))
    assert not any(same(one, other))


def test_sets_share_their_weights_and_nothing_else():
    one, other = (make_inputs(PROBLEM, 7, index, "cpu") for index in (0, 1))
    assert all(same(one.parameters(), other.parameters()))
    assert not any(same(one.per_set(), other.per_set()))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_only_an_lstm_has_a_cell_state(cell):
    inputs = make_inputs(Problem(cell, 2, 2, 3, 3), 0, 0, "cpu")
    assert (inputs.c0 is not None) == (inputs.d_c_n is not None) == (cell == "lstm")


def test_weights_of_heads_are_their_blocks_and_numbers_of_their_own():
    of_heads = make_inputs(replace(PROBLEM, heads=3), 7, 0, "cpu")
    assert {one.w_hh.shape for one in of_heads.weights} == {(4 * 6, 2)}
    whole = make_inputs(PROBLEM, 7, 0, "cpu")
    assert not any(same(of_heads.per_set(), whole.per_set()))


def test_one_head_draws_what_was_drawn_before_there_were_any():
    inputs = make_inputs(Problem("lstm", 2, 1, 1, 2), 0, 0, "cpu")
    # As commit 5556402 drew them: `ab` races such kernels, and they draw their inputs themselves.
    assert inputs.x.flatten().tolist() == [-0.9352253079414368, 1.7325072288513184]


def test_lower_precision_is_the_same_draw_rounded():
    single = make_inputs(Problem("lstm", 2, 2, 3, 3), 0, 0, "cpu")
    double = cast(single, torch.float64)
    assert all(t.dtype == torch.float64 for t in tensors(double))
    assert all(same(tensors(double), [t.double() for t in tensors(single)]))
    half = make_inputs(Problem("lstm", 2, 2, 3, 3, dtype="bfloat16"), 0, 0, "cpu")
    assert all(t.dtype == torch.bfloat16 for t in tensors(half))


def test_rows_are_picked_with_their_lengths():
    ragged = Problem("lstm", 5, 4, 3, 3, lengths="uniform:1:5")
    inputs = make_inputs(ragged, 0, 0, "cpu")
    picked = only_rows(inputs, (0, 3))
    assert torch.equal(picked.x, inputs.x[:, [0, 3]])
    assert picked.lengths.tolist() == [inputs.lengths[0], inputs.lengths[3]]


def test_silenced_rows_send_no_gradient_and_keep_their_numbers():
    inputs = make_inputs(PROBLEM, 0, 0, "cpu")
    silenced = silence_other_rows(inputs, (1,))
    assert torch.equal(silenced.x, inputs.x)
    assert torch.equal(silenced.d_y[:, 1], inputs.d_y[:, 1])
    for gradient in silenced.d_outputs():
        assert not gradient[:, [0, 2]].any()
