"""A cell inside a worker, executed here: what it is given, and what it hands over."""

import gc
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from lstm_harness.model import oracle_cost
from lstm_harness.model.protocol import (
    CloseCell,
    Draw,
    JudgeSample,
    OpenCell,
    PrepareSample,
    Trial,
)
from lstm_harness.worker.executor import Executor
from lstm_harness.worker.handing import taken
from lstm_harness.worker.inputs import make_inputs
from lstm_harness.worker.oracle import FIRST_SET, Oracle
from lstm_harness.worker.passes import Malformed
from lstm_kernels import registry

PASSES = ("inference", "forward", "backward", "train")
SEED = 5
DRAW = Draw("weights", "inputs", "gradients")
CLOSE = CloseCell(with_memory=True, with_energy=False, our_pids=())
OUTPUTS = {"y", "h_n", "c_n"}


class Honest:
    """The naive backend; what derives from it changes one thing."""

    def unsupported(self, problem, device):
        return None

    def layer(self, *given, **named):
        return registry.load("naive").layer(*given, **named)


class _Watch(torch.autograd.Function):
    """Makes nothing of its inputs, and notes them, and what a backward starts from."""

    @staticmethod
    def forward(ctx, watched, x, h0, c0):
        watched.read.append([t.clone() for t in (x, h0, c0)])
        ctx.watched, ctx.like = watched, (x, h0, c0)
        y = x.new_zeros(*x.shape[:2], h0.shape[-1])
        return y, h0.clone(), c0.clone()

    @staticmethod
    def backward(ctx, *starts):
        ctx.watched.starts.append([t.clone() for t in starts])
        return None, *(torch.zeros_like(t) for t in ctx.like)


class Watched:
    """Notes what each execution was given."""

    def __init__(self):
        self.read, self.starts, self.weights = [], [], []

    def layer(self, x, h0, c0, weights, *, problem, lengths=None):
        self.weights.append([t.detach() for t in weights[0] if t is not None])
        return _Watch.apply(self, x, h0, c0)


@pytest.fixture(autouse=True)
def as_it_was():
    """An open cell collects no garbage, and its worker computes with as many threads as told."""
    torch.set_num_threads(1)
    yield
    gc.enable()


@pytest.fixture(scope="module")
def judging():
    return Oracle("cpu")


def opened(implementation, case, with_gradients=False):
    """A cell that was opened, and what it handed over."""
    executor = Executor(implementation, "cpu")
    job = OpenCell("any", case, SEED, DRAW.weights, with_gradients)
    return executor, executor.open(job).handed


def sampled(executor, repeats, draw=DRAW, with_gradients=True):
    """Have a sample prepared and executed; returns its reading."""
    executor.prepare(PrepareSample(draw.inputs, repeats))
    if with_gradients:
        executor.draw_gradients(draw.gradients)
    return executor.execute()


def place_of(handed):
    return f"/proc/self/fd/{handed.descriptor}"


def judged(oracle, case, handed, execution):
    place = place_of(handed)
    return oracle.judge_sample(
        JudgeSample(case.problem, SEED, DRAW, execution, place, handed, case.call)
    )


def proved(oracle, case, handed):
    return oracle.judge_proof(case.problem, SEED, place_of(handed), handed, case.call)


@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize(
    "problem",
    [
        {},
        {"cell": "gru"},
        {"num_layers": 2, "bidirectional": True},
        {"lengths": "uniform:0:3"},
        {"dtype": "bfloat16"},
        {"batch_first": True},
        {"batch_first": True, "num_layers": 2, "bidirectional": True, "proj_size": 2},
        {"autocast": "bfloat16"},
        {"autocast": "float16", "batch_first": True},
        {"autocast": "bfloat16", "cell": "gru", "lengths": "uniform:0:3"},
        {"autocast": "float16", "cell": "slstm"},
    ],
)
def test_what_an_honest_backend_hands_over_is_right_at_first_and_in_a_sample(
    small_case, judging, pass_name, problem
):
    case = small_case(pass_name, **problem)
    makes_gradients = pass_name in ("backward", "train")
    executor, handed = opened(registry.load("naive"), case, with_gradients=True)
    assert len(handed.counts) == (1 if makes_gradients else 2)
    first = proved(judging, case, handed)
    assert first.failure == ""
    assert {"y", "d_x", "d_w_ih", "d_b_hh"} < set(first.errors)
    reading = sampled(executor, 3, with_gradients=makes_gradients)
    assert reading.elapsed_ns > 0
    handed = executor.hand_over()
    assert len(handed.counts) == 3
    for execution in range(3):
        assert judged(judging, case, handed, execution).failure == ""
    told = executor.close(CLOSE)
    assert told.peak_bytes > 0
    assert (told.saved_bytes is None) == (pass_name == "inference")


@pytest.mark.parametrize("pass_name", ["forward", "backward", "train"])
@pytest.mark.parametrize("more", [{}, {"autocast": "bfloat16", "batch_first": True}])
@pytest.mark.parametrize("backend", ["naive", "hoisted", "aten", "numba_cpu"])
def test_every_execution_has_masks_of_its_own_that_the_judge_draws_again(
    small_case, judging, backend, more, pass_name
):
    if registry.missing(backend):
        pytest.skip(f"{backend} needs {', '.join(registry.missing(backend))}")
    case = small_case(pass_name, num_layers=3, bidirectional=True, dropout=0.4, **more)
    executor, handed = opened(registry.load(backend), case, with_gradients=True)
    assert proved(judging, case, handed).failure == ""
    sampled(executor, 3, with_gradients=case.makes_gradients)
    handed = executor.hand_over()
    for execution in range(3):
        assert judged(judging, case, handed, execution).failure == ""


class Dropping:
    """Whole networks of `naive` with some dropout between layers, or none."""

    def __init__(self, dropped):
        self._dropped = dropped

    def stack(self, x, h0, c0, weights, *, problem, lengths, dropout, training):
        assert training
        h_n, c_n = [], []
        for index in range(problem.num_layers):
            given = x, h0[index, None], c0[index, None], (weights[index],)
            x, h, c = registry.load("naive").layer(*given, problem=problem.layer(index))
            if index < problem.num_layers - 1:
                x = self._dropped(x, dropout)
            h_n.append(h)
            c_n.append(c)
        return x, torch.cat(h_n), torch.cat(c_n)


def _others(x, p):
    torch.rand(1)
    return torch.nn.functional.dropout(x, p)


@pytest.mark.parametrize(
    ("dropped", "is_right"),
    [
        (torch.nn.functional.dropout, True),
        (lambda x, p: x, False),
        (lambda x, p: x * (1 - p), False),
        (lambda x, p: (1 - p) * torch.nn.functional.dropout(x, p), False),
        (_others, False),
    ],
    ids=["honest", "none", "scaled", "not scaled", "others"],
)
def test_dropout_that_is_not_torchs_is_wrong(small_case, judging, dropped, is_right):
    case = small_case("train", num_layers=2, dropout=0.4)
    executor, handed = opened(Dropping(dropped), case)
    assert (proved(judging, case, handed).failure == "") == is_right
    sampled(executor, 2)
    handed = executor.hand_over()
    assert (judged(judging, case, handed, 1).failure == "") == is_right


def test_the_rows_that_are_answered_have_the_masks_of_the_whole_batch(small_case, monkeypatch):
    monkeypatch.setattr(oracle_cost, "MOST_FLOPS", {"cpu": 1.0})
    case, some = small_case("train", num_layers=2, dropout=0.4, batch=6), Oracle("cpu")
    assert some.know(case.problem, SEED, case.call).rows == (0, 3, 5)
    _, handed = opened(Honest(), case)
    assert proved(some, case, handed).failure == ""


class OtherWay(Honest):
    """Has steps and sequences the wrong way round in what it returns."""

    def layer(self, *given, **named):
        y, h_n, c_n = super().layer(*given, **named)
        return y.transpose(0, 1), h_n, c_n


class Wider(Honest):
    """Returns y in float32, whatever it was given."""

    def layer(self, *given, **named):
        y, h_n, c_n = super().layer(*given, **named)
        return y.float(), h_n, c_n


class Coarse(Honest):
    """Off by more than bfloat16 is, and by less than float32's changed weights would be."""

    def layer(self, *given, **named):
        y, h_n, c_n = super().layer(*given, **named)
        return 1.04 * y, h_n, c_n


def test_steps_and_sequences_the_wrong_way_round_are_wrong(small_case, judging):
    case = small_case("inference", batch_first=True, seq_len=3, batch=3)
    _, handed = opened(OtherWay(), case)
    assert proved(judging, case, handed).failure.startswith("y wrong")
    with pytest.raises(Malformed, match=r"y is \[3, 2, 4\] .*; expected \[2, 3, 4\]"):
        opened(OtherWay(), small_case("inference", batch_first=True))


def test_under_autocast_outputs_have_its_dtype_and_its_bound(small_case, judging):
    case = small_case("inference", autocast="bfloat16")
    with pytest.raises(Malformed, match=r"y is .* float32 on cpu; expected .* bfloat16 on cpu"):
        opened(Wider(), case)
    _, handed = opened(Coarse(), case)
    assert "y wrong" in proved(judging, case, handed).failure
    assert "bound 0.03" in proved(judging, case, handed).failure


def test_a_sample_of_another_call_is_wrong_or_malformed(small_case, judging):
    case = small_case("inference", batch_first=True, seq_len=3, batch=3)
    executor, _ = opened(registry.load("naive"), case)
    sampled(executor, 1, with_gradients=False)
    handed = executor.hand_over()
    assert judged(judging, case, handed, 0).failure == ""
    plain = small_case("inference", seq_len=3, batch=3)
    assert "wrong" in judged(judging, plain, handed, 0).failure
    lower = small_case("inference", autocast="bfloat16", seq_len=3, batch=3)
    assert "bytes were handed over" in judged(judging, lower, handed, 0).failure


def test_what_was_computed_in_float32_under_autocast_is_told(small_case):
    class Wide(Honest):
        def unsupported(self, problem, device):
            return None if problem.dtype == "float32" else "its products are of float32"

        def kernels_used(self, problem):
            return [problem.dtype]

    class Low(Wide):
        def unsupported(self, problem, device):
            return None

    for backend, dtype, warnings in (
        (Wide(), "float32", ("computed in float32: its products are of float32",)),
        (Low(), "float16", ()),
    ):
        executor, _ = opened(backend, small_case("inference", autocast="float16"))
        told = executor.close(CLOSE)
        assert (told.kernels, told.warnings) == ((dtype,), warnings)


def test_it_hands_over_what_was_made_number_by_number(small_case):
    case = small_case("inference")
    made = []

    class Kept(Honest):
        def layer(self, *given, **named):
            made.append(super().layer(*given, **named))
            return made[-1]

    executor, handed = opened(Kept(), case)
    like = make_inputs(case.problem, SEED, FIRST_SET, "cpu")
    assert handed.counts == ({"y": 1, "h_n": 1, "c_n": 1},)
    for number in range(3):
        found = taken(place_of(handed), handed, like, max(0, number - 1))
        for name, right in zip(("y", "h_n", "c_n"), made[number], strict=True):
            assert torch.equal(found[name][0], right)
        if number == 0:
            sampled(executor, 2)
            handed = executor.hand_over()


def test_without_gradients_asked_for_there_are_none(small_case):
    _, handed = opened(Honest(), small_case("forward"))
    assert [set(counts) for counts in handed.counts] == [OUTPUTS]


def test_the_same_words_draw_the_same_inputs_and_others_do_not(small_case):
    watched = Watched()
    executor, _ = opened(watched, small_case("train"))
    for draw in (DRAW, DRAW, replace(DRAW, inputs="other"), replace(DRAW, gradients="other")):
        sampled(executor, 1, draw)

    def same(one, other):
        return [torch.equal(a, b) for a, b in zip(one, other, strict=True)]

    first, *others = watched.read[1:]
    assert [same(first, other) for other in others] == [[True] * 3, [False] * 3, [True] * 3]
    first, *others = watched.starts[1:]
    assert [same(first, other) for other in others] == [[True] * 3, [True] * 3, [False] * 3]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_two_executions_see_the_same_inputs(small_case, dtype):
    watched = Watched()
    problem = {"dtype": dtype, "batch": 16, "hidden_size": 32, "input_size": 32}
    executor, _ = opened(watched, small_case("train", **problem))
    for number in range(2):
        sampled(executor, 250, Draw("", f"inputs {number}", f"gradients {number}"))
    for seen, scales in ((watched.read, (1.0, 0.5, 0.5)), (watched.starts, (1.0, 1.0, 1.0))):
        assert len(seen) == 501
        as_bytes = {b"".join(t.view(torch.uint8).numpy().tobytes() for t in one) for one in seen}
        assert len(as_bytes) == 501
        for tensors, scale in zip(zip(*seen[1:], strict=True), scales, strict=True):
            # Every number of it is another, and all are as drawn: none stands out.
            whole = torch.stack(tensors).double()
            assert (whole[1:] != whole[:-1]).double().mean() > 0.98
            assert abs(whole.mean()) < 0.02 * scale
            assert 0.98 * scale < whole.std() < 1.02 * scale


@pytest.mark.parametrize("pass_name", ["backward", "train"])
def test_what_a_backward_starts_from_is_not_there_when_it_is_prepared(small_case, pass_name):
    watched = Watched()
    # Of a shape that nothing else has.
    executor, _ = opened(watched, small_case(pass_name, seq_len=7, batch=3, hidden_size=13))

    def there():
        """What is in memory of that shape, wherever it hangs."""
        tensors = [each for each in gc.get_objects() if type(each) is torch.Tensor]
        return [t.detach().clone() for t in tensors if t.shape == (7, 3, 13)]

    executor.prepare(PrepareSample(DRAW.inputs, 2))
    early = there()
    executor.draw_gradients(DRAW.gradients)
    late = there()
    executor.execute()
    for d_y, _, _ in watched.starts[-2:]:
        assert not any(torch.equal(d_y, each) for each in early)
        assert any(torch.equal(d_y, each) for each in late)


def test_weights_change_a_little_in_place_after_the_first_execution(small_case):
    watched = Watched()
    executor, _ = opened(watched, small_case("inference"))
    before = [t.clone() for t in make_inputs(small_case().problem, SEED, 0, "cpu").parameters()]
    sampled(executor, 1)
    sampled(executor, 1, replace(DRAW, inputs="other"))
    first, second, third = watched.weights
    for old, now, later, places in zip(
        before, second, third, zip(first, second, third, strict=True), strict=True
    ):
        assert len({t.data_ptr() for t in places}) == 1
        change = (now / old - 1.0).abs()
        assert change.min() > 0
        assert change.max() < 0.021
        assert torch.equal(now, later)


def test_weights_packed_in_the_first_execution_are_found_out(small_case, judging):
    class PacksOnce(Honest):
        packed = None

        def layer(self, x, h0, c0, weights, **named):
            if self.packed is None:
                self.packed = tuple(type(w)(*(t.clone() for t in w[:4])) for w in weights)
            return super().layer(x, h0, c0, self.packed, **named)

    case = small_case("inference")
    executor, handed = opened(PacksOnce(), case)
    assert judging.judge_proof(case.problem, SEED, place_of(handed), handed).failure == ""
    sampled(executor, 2)
    assert "y, h_n, c_n wrong" in judged(judging, case, executor.hand_over(), 0).failure


class OneRoom(Honest):
    """Gives every y in the same memory, from an execution on."""

    def __init__(self, begins):
        self.begins, self.executions, self.room = begins, 0, None

    def layer(self, *given, **named):
        y, h_n, c_n = super().layer(*given, **named)
        self.executions += 1
        if self.room is None:
            self.room = torch.empty_like(y)
        return (y if self.executions < self.begins else self.room.copy_(y)), h_n, c_n


def test_outputs_in_the_memory_of_the_first_executions_are_refused(small_case):
    executor, _ = opened(OneRoom(1), small_case("inference"))
    with pytest.raises(Malformed, match="returned their outputs in the same memory"):
        sampled(executor, 1)


def test_outputs_of_a_sample_in_the_same_memory_are_refused(small_case):
    executor, _ = opened(OneRoom(3), small_case("inference"))
    sampled(executor, 1)
    executor.hand_over()
    sampled(executor, 2)
    with pytest.raises(Malformed, match="returned their outputs in the same memory"):
        executor.hand_over()


def test_what_is_malformed_in_any_execution_of_a_sample_is_not_handed_over(small_case):
    class TurnsWrong(Honest):
        executions = 0

        def layer(self, *given, **named):
            self.executions += 1
            y, h_n, c_n = super().layer(*given, **named)
            return (y.double() if self.executions == 3 else y), h_n, c_n

    executor, _ = opened(TurnsWrong(), small_case("inference"))
    sampled(executor, 3)
    with pytest.raises(Malformed, match=r"y is .* float64 on cpu; expected .* float32"):
        executor.hand_over()


def test_a_backend_that_changes_its_inputs_is_refused(small_case):
    class ChangesItsInput(Honest):
        def layer(self, x, h0, *given, **named):
            made = super().layer(x, h0, *given, **named)
            h0.add_(1.0)
            return made

    with pytest.raises(Malformed, match="changed its inputs in place"):
        opened(ChangesItsInput(), small_case("inference"))


@pytest.mark.parametrize(
    "ask",
    [
        lambda executor: executor.prepare(PrepareSample("any", 1)),
        lambda executor: executor.draw_gradients("any"),
        lambda executor: executor.execute(),
        lambda executor: executor.hand_over(),
        lambda executor: executor.close(CLOSE),
    ],
    ids=["prepare", "draw_gradients", "execute", "hand_over", "close"],
)
def test_nothing_is_asked_of_a_cell_that_is_not_open(small_case, ask):
    executor = Executor(Honest(), "cpu")
    with pytest.raises(RuntimeError, match="no cell is open"):
        ask(executor)
    executor, _ = opened(Honest(), small_case("inference"))
    executor.close(CLOSE)
    with pytest.raises(RuntimeError, match="no cell is open"):
        ask(executor)


def test_garbage_is_collected_again_once_a_cell_is_closed(small_case):
    executor, _ = opened(Honest(), small_case("inference"))
    assert not gc.isenabled()
    executor.close(CLOSE)
    assert gc.isenabled()


def test_a_trial_is_measured_under_its_choice_until_the_next_cell_is_opened(small_case):
    log = []

    class Tunable(Honest):
        @contextmanager
        def using(self, key, choice):
            log.append((key, choice))
            yield
            log.append("back")

        def layer(self, *given, **named):
            log.append("executed")
            return super().layer(*given, **named)

    executor = Executor(Tunable(), "cpu")
    job = OpenCell("any", small_case("inference"), SEED, "", False, Trial("key", {"warps": 4}))
    executor.open(job)
    sampled(executor, 1)
    executor.open(replace(job, trial=None))
    assert log == [("key", {"warps": 4}), "executed", "executed", "back", "executed"]


class _Keeps:
    """A layer that keeps its scratch memory from one call to the next."""

    SCRATCH_BYTES = 1 << 20

    def __init__(self):
        self.kept = None
        self.emptied = 0

    def layer(self, x, h0, c0, weights, *, problem, lengths=None):
        if self.kept is None:
            self.kept = torch.empty(self.SCRATCH_BYTES, dtype=torch.uint8)
        return registry.load("naive").layer(x, h0, c0, weights, problem=problem, lengths=lengths)

    def empty_cache(self):
        self.kept = None
        self.emptied += 1


@pytest.mark.parametrize("pass_name", ["inference", "forward", "backward"])
def test_memory_that_a_backend_keeps_counts_as_used_by_each_call_and_not_as_saved(
    small_case, pass_name
):
    case, told = small_case(pass_name), []
    for implementation in (registry.load("naive"), _Keeps()):
        executor, _ = opened(implementation, case)
        sampled(executor, 1, with_gradients=pass_name == "backward")
        told.append(executor.close(CLOSE))
    without, keeps = told
    by_forward = 0 if pass_name == "backward" else _Keeps.SCRATCH_BYTES
    assert keeps.peak_bytes - without.peak_bytes == pytest.approx(by_forward, abs=1000)
    assert keeps.saved_bytes == without.saved_bytes
    assert implementation.emptied >= 2
