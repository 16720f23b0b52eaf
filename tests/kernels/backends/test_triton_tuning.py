"""What the Triton backend may be launched with: candidates that can run, choices it honours."""

from dataclasses import asdict, replace
from itertools import product

import closeness
import pytest
import torch

import lstm_kernels as lk
from lstm_kernels import registry, tuning

pytest.importorskip("triton")

from small_layers import Layer

from lstm_kernels.backends import fused_triton
from lstm_kernels.backends.fused_triton import parameters, replay, sequence
from lstm_kernels.backends.fused_triton import tuning as triton_tuning
from lstm_kernels.gpu.machine_code import architecture

PASSES = ("forward", "backward")
HIDDEN = (16, 64, 96, 128, 256, 257, 512, 768, 1024, 2048, 4096)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FACTS = sequence.architecture_of(DEVICE)


def problems(batches=(1, 16, 40, 64, 256)):
    dtypes = (("float16", "ieee"), ("float32", "ieee"), ("float32", "tf32"), ("float64", "ieee"))
    for cell, H, B, (dtype, precision), D in product(
        ("lstm", "gru", "rnn_tanh", "lstm_cifg", "indrnn"), HIDDEN, batches, dtypes, (False, True)
    ):
        sizes = {"seq_len": 64, "batch": B, "input_size": H, "hidden_size": H}
        yield lk.Problem(cell, **sizes, dtype=dtype, precision=precision, bidirectional=D)


def read(choice):
    return triton_tuning.read_choice(choice)


def in_use(problem, pass_name="forward"):
    return triton_tuning.parameters_for(problem, pass_name, FACTS, DEVICE)


@pytest.fixture
def small():
    return lk.Problem("lstm", seq_len=3, batch=3, input_size=5, hidden_size=32, bidirectional=True)


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """Write the user's file for this device, with these choices."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def write(choices):
        record = registry.get("triton")
        document = tuning.header(record, str(DEVICE)) | {"date": "now", "tuning_s": 0}
        document |= {"compile_s": 0, "entries": {k: {"choice": c} for k, c in choices.items()}}
        name = tuning.file_name("triton", tuning.device_facts(str(DEVICE)))
        tuning.write(tuning.user_folder() / name, document)
        tuning.forget()

    yield write
    tuning.forget()


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_every_candidate_fits_and_the_first_is_the_tables(arch):
    facts = architecture(arch)
    for problem, pass_name in product(problems(), PASSES):
        choices = triton_tuning.candidates_on(problem, pass_name, facts)
        assert choices[0] == asdict(parameters.choose(problem, pass_name, facts))
        assert 3 <= len(choices) <= triton_tuning.MOST_CANDIDATES
        assert len({tuple(choice.items()) for choice in choices}) == len(choices)
        for choice in map(read, choices):
            whole = replace(problem, batch=tuning.top_of_bucket(problem.batch))
            where = f"{whole.label()} {pass_name} {choice}"
            reason = triton_tuning.reason_against(whole, pass_name, choice, facts)
            assert reason is None, f"{where}: {reason}"
            if choice.regime == "held":
                assert choice.tiles_at_once(whole, facts.sm_count) >= 1, where
                held = parameters.held_bytes(whole, pass_name, choice)
                assert held <= facts.shared_per_block, where
            assert choice.chunk >= parameters.SMALLEST_CHUNK * choice.split, where
            # 255 registers a thread, and 65536 an SM.
            assert choice.resident * choice.warps * 32 * 255 <= 65536, where


def test_every_candidate_runs_every_batch_of_its_key():
    facts = architecture("sm_90")
    for problem in problems(batches=(33,)):
        for pass_name in PASSES:
            for choice in triton_tuning.candidates_on(problem, pass_name, facts)[1:]:
                for batch in (33, 64):
                    one = replace(problem, batch=batch)
                    assert tuning.key_of(one, pass_name) == tuning.key_of(problem, pass_name)
                    assert not triton_tuning.reason_against(one, pass_name, read(choice), facts)


IMPOSSIBLE = {
    "regime": "none",
    "tile": 8,
    "units": 24,
    "chunk": 16,
    "split": 16,
    "ahead": -1,
    "warps": 16,
    "resident": 4,
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_the_kernels_cannot_run_is_refused(name, small):
    good = {"regime": "held", "tile": 16, "units": 8, "chunk": 32, "split": 2, "ahead": 1}
    good |= {"warps": 4, "resident": 1}
    key = fused_triton.tuning_key(small, "forward", str(DEVICE))
    with fused_triton.using(key, good):
        assert in_use(small) == read(good)
    with (
        fused_triton.using(key, good | {name: IMPOSSIBLE[name]}),
        pytest.raises(ValueError, match="cannot run"),
    ):
        in_use(small)


@pytest.mark.parametrize("choice", [{}, {"tile": 16}, {"regime": "held"}])
def test_what_is_no_choice_is_refused(choice, small):
    with (
        fused_triton.using(fused_triton.tuning_key(small, "forward", "cpu"), choice),
        pytest.raises(ValueError, match="not a choice of parameters"),
    ):
        in_use(small)


def test_too_many_programs_that_wait_are_refused():
    problem = lk.Problem("lstm", 8, 16, 1024, 1024, bidirectional=True, dtype="float16")
    choice = parameters.Parameters("held", 16, 8, 256, 4, 2, 4, 1)
    reason = triton_tuning.reason_against(problem, "forward", choice, architecture("sm_90"))
    assert reason == "256 programs wait for each other on 132 SMs"


def test_two_programs_of_a_tile_on_an_sm_instead_of_a_second_turn():
    """As many as fit there, by shared memory and registers; else the turn is taken."""
    facts = architecture("sm_90")

    def chosen(H, batch, **facts_of):
        problem = lk.Problem("lstm", 8, batch, H, H, dtype="float16")
        found = parameters.choose(problem, "forward", replace(facts, **facts_of))
        return problem, found, found.turns(problem, facts.sm_count)

    for H, batch in ((256, 512), (512, 256)):
        problem, found, turns = chosen(H, batch)
        assert (found.resident, turns) == (2, 1)
        assert found.tiles_at_once(problem, facts.sm_count) >= found.tiles(batch)
        assert found.warps == 4
        _, half, turns = chosen(H, batch // 2)
        assert (half.resident, turns) == (1, 1)
        _, found, _ = chosen(H, batch, shared_per_sm=facts.shared_per_block // 4)
        assert found.resident == 1


def test_a_choice_of_more_programs_than_an_sm_holds_is_refused():
    problem = lk.Problem("lstm", 8, 16, 768, 768, dtype="float16")
    facts = architecture("sm_90")
    one = parameters.choose(problem, "backward", facts)
    assert triton_tuning.reason_against(problem, "backward", one, facts) is None
    assert one.warps == 8
    for warps, needed in ((8, 139264), (4, 139264)):
        two = replace(one, resident=2, warps=warps, split=warps)
        assert triton_tuning.reason_against(problem, "backward", two, facts) == (
            f"an SM holds 1 programs with {needed} bytes of shared memory and {warps} warps each"
        )
    # By shared memory two would fit; by registers of eight warps each they do not.
    problem = replace(problem, hidden_size=256)
    two = replace(parameters.choose(problem, "backward", facts), resident=2)
    assert two.warps == 8
    assert "an SM holds 1 programs" in triton_tuning.reason_against(problem, "backward", two, facts)


def test_tuning_tries_two_programs_on_an_sm_where_that_makes_them_smaller():
    problem = lk.Problem("lstm", 64, 64, 512, 512, dtype="float16")
    facts = architecture("sm_90")
    first, *others = map(read, triton_tuning.candidates_on(problem, "forward", facts))
    assert (first.units, first.resident) == (16, 1)
    assert any((other.units, other.resident) == (8, 2) for other in others)


def test_a_tuned_file_goes_before_the_table_and_a_trial_before_both(small, tuned):
    key = fused_triton.tuning_key(small, "forward", str(DEVICE))
    table, first, second, *_ = map(read, fused_triton.candidates(small, "forward", str(DEVICE)))
    assert in_use(small) == table
    tuned({key: asdict(first)})
    assert in_use(small) == first
    assert in_use(small, "backward") == parameters.choose(small, "backward", FACTS)
    assert in_use(replace(small, batch=17)) == parameters.choose(
        replace(small, batch=17), "forward", FACTS
    )
    with fused_triton.using(key, asdict(second)):
        assert in_use(small) == second
        assert f"forward: {second}" in fused_triton.kernels_used(small)
        (launch, *_) = fused_triton.launches_for(small, "sm_90")
        assert launch.regime == second.regime
        assert launch.parameters["warps"] == second.warps
    assert in_use(small) == first
    # What is compiled for an architecture is no device's, and has no file.
    (launch, *_) = fused_triton.launches_for(small, "sm_90")
    assert launch.regime == parameters.choose(small, "forward", architecture("sm_90")).regime
    # The candidates do not depend on the file.
    assert read(fused_triton.candidates(small, "forward", str(DEVICE))[0]) == table


def test_a_kept_choice_that_cannot_run_is_warned_of_and_the_table_used(small, tuned):
    key = fused_triton.tuning_key(small, "forward", str(DEVICE))
    choice = fused_triton.candidates(small, "forward", str(DEVICE))[0] | {"split": 64}
    tuned({key: choice})
    with pytest.warns(UserWarning, match="cannot run"):
        assert in_use(small) == parameters.choose(small, "forward", FACTS)


@pytest.mark.parametrize(
    ("cell", "pass_name"),
    [
        ("lstm", "backward"),
        ("gru", "forward"),
        pytest.param("lstm", "forward", marks=pytest.mark.slow),
        pytest.param("gru", "backward", marks=pytest.mark.slow),
    ],
)
def test_every_choice_gives_the_same_results(cell, pass_name):
    problem = lk.Problem(cell, 3, 3, 5, 32, bidirectional=True, lengths="uniform:0:3")
    layer = Layer.draw(problem, DEVICE, "triton")
    expected = replace(layer, backend="reference").run()
    key = fused_triton.tuning_key(problem, pass_name, str(DEVICE))
    choices = fused_triton.candidates(problem, pass_name, str(DEVICE))
    assert len({choice["regime"] for choice in choices}) == 3
    for choice in choices:
        with fused_triton.using(key, choice):
            errors = closeness.relative_errors(layer.run(), expected)
        closeness.assert_within(closeness.LAYER["float32"], errors, choice)


def test_graphs_of_a_choice_serve_no_other(monkeypatch, small):
    """A kernel a step is replayed from a graph that is found again by its parameters, too."""
    keys = []
    monkeypatch.setattr(sequence, "replay", lambda key, *rest: keys.append(key))
    key = fused_triton.tuning_key(small, "forward", str(DEVICE))
    streamed = [
        choice
        for choice in fused_triton.candidates(
            replace(small, hidden_size=2048), "forward", str(DEVICE)
        )
        if choice["regime"] == "streamed"
    ][:2]
    layer = Layer.draw(small, DEVICE, "triton")
    for choice in streamed:
        with fused_triton.using(key, choice), torch.no_grad():
            fused_triton.layer(**layer.arguments, problem=small)
    assert len(set(keys)) == len(keys) == 2
    assert replay._graphs.keys().isdisjoint(keys)
