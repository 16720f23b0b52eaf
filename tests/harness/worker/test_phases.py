"""A backend's notes of its phases: what becomes of them, and what is refused."""

import gc
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from lstm_harness.worker import phases
from lstm_harness.worker.passes import Malformed
from lstm_harness.worker.phases import Execution, Notes, time_phases, typical
from lstm_kernels import registry

PASSES = ("inference", "forward", "backward", "train")


@pytest.fixture
def clock():
    """Notes by a clock that a test moves: `clock.now` in ns."""
    made = SimpleNamespace(now=0)
    made.notes = Notes(lambda: made.now, lambda begin, end: end - begin)
    return made


def execution(clock, *notes):
    """An execution in which each note comes that much later, then 5 ns."""
    clock.notes.begin()
    for later, *note in notes:
        clock.now += later
        clock.notes(*note)
    clock.now += 5
    return clock.notes.end()


def test_a_phase_is_all_since_the_note_before(clock):
    found = execution(clock, (10, "first"), (20, "second"), (3, "first"))
    assert found == Execution(38, {"first": 13, "second": 20})
    assert execution(clock, (7, "second")) == Execution(12, {"second": 7})


def test_what_a_backend_timed_itself_counts_once(clock):
    # Of the 30 ns that "loop" ends, a kernel timed 12.
    found = execution(clock, (10, "before"), (20, "kernel", 12), (10, "loop"), (0, "kernel", 1.5))
    assert found == Execution(45, {"before": 10, "kernel": 13.5, "loop": 18})


def test_what_is_rounded_may_add_up_to_a_little_more(clock):
    clock.now = 0
    clock.notes.begin()
    clock.now = 10_000
    clock.notes("all", 10_009)
    assert clock.notes.end() == Execution(10_000, {"all": 10_009})


@pytest.mark.parametrize(
    ("notes", "says"),
    [
        ([(9, "kernel", 20)], "it noted 20.0 ns of an execution of 14.0 ns"),
        ([(9, "kernel", 10), (0, "loop")], "more time before the end of 'loop' than there was"),
        ([(9, "kernel", -1)], "it noted -1 ns of 'kernel'; expected a number from 0 on"),
        ([(9, "kernel", float("nan"))], "it noted nan ns of 'kernel'"),
        ([(9, "kernel", "3")], "it noted '3' ns of 'kernel'"),
        ([(9, "kernel", True)], "it noted True ns of 'kernel'"),
        ([(9, 3)], "it noted the phase 3; expected a name"),
        ([(9, " ")], "it noted the phase ' '; expected a name"),
        ([(9, "two\nlines")], "it noted the phase 'two\\nlines'; expected a name"),
        ([(9, 41 * "x")], "expected at most 40 characters"),
        ([(1, f"phase {n}") for n in range(41)], "it noted 41 phases; expected at most 40"),
    ],
)
def test_what_cannot_be_is_refused(clock, notes, says):
    with pytest.raises(Malformed, match="noted") as refusal:
        execution(clock, *notes)
    assert says in str(refusal.value)


def test_the_middle_half_still_adds_up():
    made = [Execution(whole, {"a": whole - 10, "b": 4}) for whole in (100, 20, 5_000, 30, 40, 50)]
    made[3] = Execution(30, {"c": 30})
    found = typical(made)
    # Without the fastest and the slowest: 30, 40, 50 and 100.
    assert found == Execution(55, {"c": 7.5, "a": 40, "b": 3})
    assert typical(made[:1]) == made[0]


def implementation(noted):
    """The hoisted backend, whose `in_phases` returns what `noted` makes of a note."""
    hoisted = registry.load("hoisted")
    return SimpleNamespace(layer=hoisted.layer, in_phases=noted)


@pytest.mark.parametrize("pass_name", PASSES)
def test_hoisted_in_every_pass(small_case, pass_name):
    found = time_phases(registry.load("hoisted"), small_case(pass_name), 0, "cpu", 0.0)
    forward, backward = ["x W_ih^T", "steps"], ["backward: steps", "backward: x W_ih^T"]
    of_pass = {"train": [*forward, *backward], "backward": backward}
    # What the backward's forward notes is no part of it.
    assert list(found.phases) == of_pass.get(pass_name, forward)
    assert found.executions == phases.LEAST
    assert all(ns > 0 for ns in found.phases.values())
    assert sum(found.phases.values()) < found.whole_ns
    assert gc.isenabled()


def test_notes_of_something_else_are_refused(small_case):
    def wrong(note):
        def layer(*given, **named):
            y, h, c = registry.load("hoisted").layer(*given, **named)
            note("steps")
            return 1.1 * y, h, c

        return SimpleNamespace(layer=layer)

    with pytest.raises(Malformed, match="with notes it computes another result: y wrong"):
        time_phases(implementation(wrong), small_case(), 0, "cpu", 0.0)


def test_no_note_is_refused(small_case):
    silent = implementation(lambda note: registry.load("hoisted"))
    with pytest.raises(Malformed, match="it noted no phase of pass backward"):
        time_phases(silent, small_case("backward"), 0, "cpu", 0.0)


def test_only_the_half_with_notes_notes(small_case):
    """Executions alternate, and the backend's own layer is the one without."""
    done = []

    def layer(kind, note, *given, **named):
        done.append(kind)
        outputs = registry.load("naive").layer(*given, **named)
        if note:
            note("all of it")
        return outputs

    both = SimpleNamespace(
        layer=partial(layer, "plain", None),
        in_phases=lambda note: SimpleNamespace(layer=partial(layer, "noting", note)),
    )
    found = time_phases(both, small_case("inference"), 0, "cpu", 0.0)
    assert list(found.phases) == ["all of it"]
    # The first of each is the one whose results are compared.
    assert done == ["plain", "noting"] * (1 + phases.LEAST)


class Event:
    """An event of a GPU that takes 2 ms to the next."""

    made = 0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        Event.made += 1
        self.at_ms = 2.0 * Event.made

    def synchronize(self):
        self.is_over = True

    def elapsed_time(self, end):
        assert end.is_over
        return end.at_ms - self.at_ms


def test_a_gpu_is_timed_between_events(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    notes = phases.notes_on("cuda")
    notes.begin()
    notes("one")
    notes("two", 500)
    notes("three")
    assert notes.end() == Execution(6e6, {"one": 2e6, "two": 500, "three": 2e6 - 500})
