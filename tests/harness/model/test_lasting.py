import pytest
from synthetic_runs import environment

from lstm_harness.model.lasting import LASTING, changed, changed_class, tuned

GPU = {"name": "A GPU", "uuid": "GPU-1", "sm_count": 100, "driver": "1.0"}


def of_gpu(**facts):
    return environment() | {"gpu": GPU | facts}


@pytest.mark.parametrize("name", LASTING)
def test_each_fact_must_last(name):
    other = environment() | {name: {"name": "another"}}
    assert changed(environment(), other) == [name]
    assert changed_class(environment(), other) == ([] if name == "host" else [name])


def test_another_gpu_of_the_same_kind_is_of_the_class():
    other = of_gpu(uuid="GPU-2") | {"host": "elsewhere"}
    assert changed(of_gpu(), other) == ["host", "gpu"]
    assert changed_class(of_gpu(), other) == []
    assert changed_class(of_gpu(), of_gpu(sm_count=99)) == ["gpu"]
    assert changed_class(of_gpu(), environment()) == ["gpu"]


def test_tuned_parameters_are_those_of_backends_that_are_asked_for():
    used = {"digest": "1", "date": "today"}
    facts = {"tuned": {"triton": {"used": used}, "numba_cuda": {"used": None}}}
    assert tuned(facts, ["triton", "numba_cuda", "aten"]) == {"triton": "1"}
    assert tuned({}, ["triton"]) == {}
