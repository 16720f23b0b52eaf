"""Launch parameters of numba_cuda: what may be tried can run, and gives the same results."""

import json
from dataclasses import asdict, replace

import closeness
import pytest
import torch
from small_layers import Layer

import lstm_kernels as lk
from lstm_kernels import registry, tuning
from lstm_kernels.gpu.machine_code import ARCHITECTURES

numba_cuda = registry.load("numba_cuda")
tuned_parameters = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.tuning")
parameters = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.parameters")
sequence = pytest.importorskip("lstm_kernels.backends.fused_numba_cuda.sequence")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FACTS = sequence.architecture_of(DEVICE)
PASSES = ("forward", "backward")
SMALL = lk.Problem("lstm", 3, 3, 5, 6, bidirectional=True, lengths="uniform:0:3")


@pytest.fixture(autouse=True)
def _forget():
    tuning.forget()
    yield
    tuning.forget()


def read(choice):
    return tuned_parameters.read_choice(choice)


@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("hidden", [64, 256, 512, 1024, 1536, 4096])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_every_candidate_can_run_every_batch_of_its_key(pass_name, arch, hidden, batch):
    problem = lk.Problem("lstm", 9, batch, hidden, hidden, bidirectional=hidden == 512)
    on = ARCHITECTURES[arch]
    choices = tuned_parameters.candidates_on(problem, pass_name, on)
    assert read(choices[0]) == parameters.choose(problem, pass_name, on)
    assert 1 <= len(choices) <= tuned_parameters.MOST_CANDIDATES
    assert len({json.dumps(choice) for choice in choices}) == len(choices)
    key = tuned_parameters.tuning_key(problem, pass_name, "cuda")
    for other in range(1, 9):
        one = replace(problem, batch=other)
        if tuned_parameters.tuning_key(one, pass_name, "cuda") == key:
            for choice in choices[1:]:
                assert tuned_parameters.reason_against(one, pass_name, read(choice), on) is None
    assert "streamed" in {choice["regime"] for choice in choices}


def test_small_layers_have_something_to_choose_from():
    problem = lk.Problem("lstm", 9, 8, 512, 512)
    choices = tuned_parameters.candidates_on(problem, "forward", ARCHITECTURES["sm_90"])
    assert len({(choice["lanes"], choice["tile"]) for choice in choices}) > 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"regime": "own"}, "unknown regime"),
        ({"lanes": 40}, "no kernel has lanes=40"),
        ({"registers": 7}, "no kernel has"),
        ({"parts": 1}, "parts=1"),
        ({"units": 100}, "units=100"),
        ({"in_shared": 2}, "do not hold H"),
        ({"directions": 3}, "directions=3"),
        ({"tile": 100}, "tile=100"),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(change, says):
    problem = lk.Problem("lstm", 9, 4, 512, 512)
    on = ARCHITECTURES["sm_90"]
    given = replace(parameters.choose(problem, "forward", on), **change)
    assert says in tuned_parameters.reason_against(problem, "forward", given, on)


@pytest.mark.slow
@pytest.mark.parametrize("pass_name", PASSES)
def test_every_choice_gives_the_same_results(pass_name):
    layer = Layer.draw(SMALL, DEVICE, "numba_cuda")
    expected = replace(layer, backend="reference").run()
    key = numba_cuda.tuning_key(SMALL, pass_name, str(DEVICE))
    choices = numba_cuda.candidates(SMALL, pass_name, str(DEVICE))
    assert {choice["regime"] for choice in choices} == {"held", "streamed"}
    for choice in (choices[0], choices[1], choices[-1]):
        with numba_cuda.using(key, choice):
            errors = closeness.relative_errors(layer.run(), expected)
        closeness.assert_within(closeness.LAYER["float32"], errors, choice)


def test_choice_on_trial_is_what_runs():
    key = numba_cuda.tuning_key(SMALL, "forward", str(DEVICE))
    own = parameters.choose(SMALL, "forward", FACTS)
    streamed = asdict(tuned_parameters.STREAMED)
    with numba_cuda.using(key, streamed):
        in_use = tuned_parameters.parameters_for(SMALL, "forward", FACTS, DEVICE)
    assert in_use == tuned_parameters.STREAMED != own
    assert tuned_parameters.parameters_for(SMALL, "forward", FACTS, DEVICE) == own
    with (
        numba_cuda.using(key, asdict(replace(own, tile=99))),
        pytest.raises(ValueError, match=r"cannot run .*tile=99"),
    ):
        tuned_parameters.parameters_for(SMALL, "forward", FACTS, DEVICE)
