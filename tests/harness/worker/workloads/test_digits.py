"""Digits: the split, the three ways of reading, and that no order changes what is said."""

import pytest
import torch
import workload_checks as checks

from lstm_harness.worker.workloads import digits

SHAPES = {"digits": (8, 8), "digits-pixels": (64, 1), "digits-permuted": (64, 1)}
NAMES = list(SHAPES)


@pytest.fixture(scope="module")
def tasks():
    return {name: checks.made(name) for name in NAMES}


def epoch(task):
    return [task.batch(step) for step in range(1437 // 50)]


def as_bytes(x):
    """Every digit of x [T, B, I], to be found again."""
    return [row.numpy().tobytes() for row in x.transpose(0, 1).contiguous()]


def test_the_file_has_what_scikit_learn_says_of_it():
    pixels, labels = digits.read()
    assert pixels.shape == (1797, 64)
    assert (pixels.min(), pixels.max()) == (0, 1)
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # A zero: nothing in its middle.
    assert labels[0] == 0
    assert pixels[0].reshape(8, 8)[3:5, 3].tolist() == [0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_has_the_steps_of_its_form(tasks, name):
    x, labels = tasks[name].batch(0)
    assert (x.shape, labels.shape) == ((SHAPES[name][0], 50, SHAPES[name][1]), (50,))
    assert x.is_contiguous()


def test_the_three_forms_have_the_same_digits_in_other_orders(tasks):
    rows, pixels, permuted = (tasks[name].batch(5)[0] for name in NAMES)
    assert torch.equal(rows.transpose(0, 1).reshape(50, 64), pixels[..., 0].T)
    assert torch.equal(pixels[digits.permutation(64, digits.PIXELS)], permuted)
    assert not torch.equal(pixels, permuted)


def test_nothing_held_out_is_learnt_from(tasks):
    task = tasks["digits"]
    x, labels = task._rows(task._held_out)
    learnt = [each for x, _ in epoch(task) for each in as_bytes(x)]
    assert len(set(learnt)) == len(learnt) == 1400
    assert len(labels) == 360
    assert not set(learnt) & set(as_bytes(x))


def test_the_split_and_the_order_of_pixels_are_the_datas_own(tasks):
    one, other = tasks["digits-permuted"], checks.made("digits-permuted", seed=1)
    assert checks.same(one._rows(one._held_out), other._rows(other._held_out))


@pytest.mark.parametrize("name", NAMES)
def test_batches_follow_from_the_seed(tasks, name):
    checks.check_batches(tasks[name], checks.made(name), checks.made(name, seed=1))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_in_a_batch_changes_no_logit(tasks, name):
    x, _ = tasks[name].batch(0)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    turned = checks.logits(tasks[name], x[:, order])
    expected = checks.logits(tasks[name], x)[order]
    torch.testing.assert_close(turned, expected, **checks.NOISE)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["aten", "numba_cpu"])
def test_backends_begin_alike(name, backend):
    checks.check_opening(name, backend)


def test_accuracy_is_of_the_held_out_and_beside_it_is_the_most_frequent_digits(tasks, monkeypatch):
    task = tasks["digits"]
    labels = task._rows(task._held_out)[1]
    assert task.baseline() == max(labels.tolist().count(digit) for digit in range(10)) / 360
    told = torch.nn.functional.one_hot(labels, 10).float()
    told[:9] = told[:9].roll(1, 1)
    monkeypatch.setattr(task.model, "forward", lambda x: told[: x.shape[1]])
    assert task.held_out(False)["accuracy"] == 351 / 360
    assert task.examples()[0] == f"{labels[0]}: {(labels[0] + 1) % 10}"


@pytest.mark.parametrize("name", NAMES)
def test_without_the_package_one_line_says_what_to_type(monkeypatch, name):
    checks.check_missing(
        monkeypatch,
        name,
        "sklearn",
        f"workload '{name}' needs scikit-learn, but sklearn is not installed; "
        "pip install 'lstm-bench[workloads]'",
    )
