"""Inputs that no execution had before: normal numbers, the same in two processes, and no sums."""

import random
from dataclasses import replace

import pytest
import torch

from lstm_harness.worker.fresh import MOST_CHANGE, WINDOW, Mixer, change_weights, changed_weights
from lstm_harness.worker.inputs import make_inputs
from lstm_kernels import Problem

BOUND = 1e-5
PROBLEM = Problem("lstm", 5, 3, 4, 6, num_layers=2, bidirectional=True, proj_size=2)


def filled(word, count, dtype=torch.float32, scale=1.0):
    """So many numbers; what was there before is none."""
    room = torch.full((count,), torch.nan, dtype=dtype)
    Mixer("cpu").fill(room, random.Random(word), scale)
    return room


def drawn(mixer, word, execution, problem=PROBLEM):
    """All inputs of one execution."""
    inputs = mixer.inputs(make_inputs(problem, 0, 0, "cpu"), word, execution, True)
    mixer.gradients(inputs, word, execution)
    return inputs


def same(one, other):
    return [torch.equal(a, b) for a, b in zip(one, other, strict=True)]


def test_two_mixers_draw_the_same_and_need_no_state_of_ours():
    torch.manual_seed(0)
    random.seed(0)
    before = torch.get_rng_state(), random.getstate()
    first = drawn(Mixer("cpu"), "word", 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    torch.manual_seed(1)
    random.seed(1)
    later = Mixer("cpu")
    drawn(later, "another", 0)
    assert all(same(first.per_set(), drawn(later, "word", 2).per_set()))


@pytest.mark.parametrize(("word", "execution"), [("word", 1), ("another", 0)])
def test_another_word_or_execution_has_other_numbers_everywhere(word, execution):
    mixer = Mixer("cpu")
    pairs = zip(
        drawn(mixer, "word", 0).per_set(), drawn(mixer, word, execution).per_set(), strict=True
    )
    assert all((one != other).all() for one, other in pairs)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_numbers_are_normal(dtype, scale):
    numbers = filled("word", 200_000, getattr(torch, dtype), scale).double() / scale
    mean, std = numbers.mean(), numbers.std()
    assert abs(mean) < 0.01
    assert 0.99 < std < 1.01
    standard = (numbers - mean) / std
    assert abs((standard**3).mean()) < 0.03
    assert 2.9 < (standard**4).mean() < 3.1
    # Few are far out, as few as there should be.
    assert 0.040 < (standard.abs() > 2).double().mean() < 0.051
    assert 4.0 < standard.abs().max() < 6.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_another_format_is_the_same_draw_rounded(dtype):
    assert torch.equal(filled("word", 10_000, dtype), filled("word", 10_000).to(dtype))


@pytest.mark.parametrize("earlier", [2, 50])
def test_no_draw_is_a_sum_of_earlier_ones(earlier):
    draws = torch.stack([filled(f"word {number}", 50_000) for number in range(earlier + 1)])
    basis, target = draws[:-1].double().T, draws[-1:].double().T
    factors = torch.linalg.lstsq(basis, target).solution
    left = torch.linalg.vector_norm(target - basis @ factors) / torch.linalg.vector_norm(target)
    assert left > 0.99


def test_a_large_tensor_is_drawn_in_windows_and_no_two_are_alike():
    numbers = filled("word", 2 * WINDOW + 1000)
    assert torch.isfinite(numbers).all()
    one, other, rest = numbers[:WINDOW], numbers[WINDOW : 2 * WINDOW], numbers[2 * WINDOW :]
    for part in (one, other, rest):
        assert part.std() == pytest.approx(1.0, abs=0.1)
    # Nor is one the other moved by some places, whichever way round.
    for moved in (other, other.flip(0)):
        spectra = torch.fft.rfft(one.double()) * torch.fft.rfft(moved.double()).conj()
        correlations = torch.fft.irfft(spectra, n=WINDOW) / WINDOW
        assert correlations.abs().max() < 6 / WINDOW**0.5


def test_what_is_done_with_inputs_changes_no_later_draw():
    mixer = Mixer("cpu")
    first = drawn(mixer, "word", 0)
    kept = [tensor.clone() for tensor in first.per_set()]
    for tensor in first.per_set():
        tensor.fill_(7.0)
    assert all(same(drawn(mixer, "word", 0).per_set(), kept))


def test_inputs_lie_in_memory_of_their_own_and_share_their_weights_and_lengths():
    like = make_inputs(replace(PROBLEM, lengths="uniform:1:5"), 0, 0, "cpu")
    inputs = Mixer("cpu").inputs(like, "word", 0, True)
    places = {t.data_ptr() for t in (*like.per_set(), *inputs.per_set())}
    assert len(places) == 2 * len(like.per_set())
    for ours, theirs in zip(inputs.per_set(), like.per_set(), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert inputs.weights is like.weights
    assert inputs.lengths is like.lengths


def test_states_are_half_as_large_and_what_gradients_start_from_is_drawn_into_its_room():
    problem = replace(PROBLEM, batch=4000)
    mixer = Mixer("cpu")
    inputs = mixer.inputs(make_inputs(problem, 0, 0, "cpu"), "word", 0, True)
    for tensor in inputs.d_outputs():
        tensor.fill_(torch.nan)
    mixer.gradients(inputs, "gradients", 0)
    for tensor in (inputs.x, *inputs.d_outputs()):
        assert tensor.std() == pytest.approx(1.0, abs=0.03)
    for tensor in (inputs.h0, inputs.c0):
        assert tensor.std() == pytest.approx(0.5, abs=0.015)


def test_who_has_no_cell_state_is_given_none():
    inputs = drawn(Mixer("cpu"), "word", 0, Problem("gru", 5, 3, 4, 6))
    assert inputs.c0 is None
    assert inputs.d_c_n is None
    assert torch.isfinite(inputs.d_y).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_change_by_a_small_part_each_by_another(dtype):
    weights = make_inputs(replace(PROBLEM, dtype=dtype, bias=False), 0, 0, "cpu").weights
    parts = []
    for group, changed in zip(weights, changed_weights(weights, "word", BOUND), strict=True):
        assert changed.b_ih is changed.b_hh is None
        for old, new in ((group.w_ih, changed.w_ih), (group.w_hr, changed.w_hr)):
            assert new.dtype == old.dtype
            part = torch.linalg.vector_norm(new.double()) / torch.linalg.vector_norm(old.double())
            parts.append(part.item())
    assert len(set(parts)) == len(parts)
    assert max(abs(part - 1.0) for part in parts) < MOST_CHANGE + 0.01
    assert min(abs(part - 1.0) for part in parts) > MOST_CHANGE / 2 - 0.01


def of(*groups):
    """The tensors that there are."""
    return [tensor for group in groups for tensor in group if tensor is not None]


def test_weights_change_by_more_than_an_error_that_is_let_pass():
    weights = make_inputs(PROBLEM, 0, 0, "cpu").weights
    bound = 0.03
    for group, changed in zip(weights, changed_weights(weights, "word", bound), strict=True):
        for old, new in zip(of(group), of(changed), strict=True):
            off = torch.linalg.vector_norm(new - old) / torch.linalg.vector_norm(old)
            assert off > 3 * bound


def test_weights_changed_in_place_are_what_the_oracle_changes_them_to():
    weights = make_inputs(PROBLEM, 0, 0, "cpu").weights
    right = of(*changed_weights(weights, "word", BOUND))
    other = of(*changed_weights(weights, "another", BOUND))
    places = [t.data_ptr() for t in of(*weights)]
    change_weights(weights, "word", BOUND)
    now = of(*weights)
    assert all(same(now, right))
    assert not any(same(now, other))
    assert [t.data_ptr() for t in now] == places
