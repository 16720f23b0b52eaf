"""Engine `ray`, with a cluster that a test holds: what tasks need, and what comes of them."""

import sys
from types import SimpleNamespace

import pytest

from lstm_harness.fleet.on_ray import RayEngine
from lstm_harness.fleet.task import Ended, Task
from lstm_harness.model.errors import Exit, MeasuringFailed


class RayError(Exception):
    """As Ray's."""


class Ray:
    """A cluster with nodes; what is remote ends as a test says."""

    def __init__(self, *nodes):
        self.nodes = lambda: [{"Alive": True, "Resources": each} for each in nodes]
        self.exceptions = SimpleNamespace(RayError=RayError)
        self.needs, self.results, self.cancelled, self.kept = [], {}, [], []
        self.address, self.is_there, self.is_left = None, True, False

    def init(self, address, **_):
        self.address = address
        if not self.is_there:
            raise ConnectionError("Could not find any running Ray instance.\nMore.")

    def remote(self, **needs):
        self.needs.append(needs)
        return lambda function: SimpleNamespace(remote=self._called)

    def _called(self, task, shared):
        assert task.shared == {}, "it is carried once"
        assert shared in range(len(self.kept))
        return f"reference of {task.name}"

    def put(self, shared):
        self.kept.append(shared)
        return len(self.kept) - 1

    def wait(self, references, timeout, num_returns=1):
        ready = [each for each in references if each in self.results][:num_returns]
        return ready, [each for each in references if each not in ready]

    def get(self, reference):
        result = self.results[reference]
        if isinstance(result, Exception):
            raise result
        return result

    def cancel(self, reference, force):
        assert force
        self.cancelled.append(reference)

    def shutdown(self):
        self.is_left = True


@pytest.fixture
def cluster(monkeypatch):
    def make(*nodes):
        made = Ray(*nodes)
        monkeypatch.setitem(sys.modules, "ray", made)
        return made

    return make


def needs_of(ray, device, avoiding=(), **settings):
    RayEngine(**settings).submit([Task("a", device, {})], avoiding)
    return ray.needs[-1]


def test_a_task_has_one_gpu_or_all_cores_of_a_node(cluster):
    ray = cluster({"CPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}, {})
    assert needs_of(ray, "cuda") == {"max_retries": 0, "max_calls": 1, "num_gpus": 1}
    assert needs_of(ray, "auto")["num_gpus"] == 1
    assert needs_of(ray, "cuda", accelerator_type="H100")["accelerator_type"] == "H100"
    on_cpu = needs_of(ray, "cpu")
    assert (on_cpu["num_cpus"], on_cpu["scheduling_strategy"]) == (8.0, "SPREAD")
    assert "num_gpus" not in needs_of(cluster({"CPU": 2.0}), "auto")


def test_nodes_that_refused_are_avoided(cluster):
    needs = needs_of(cluster({"CPU": 2.0}), "cpu", avoiding={"b2", "a1"})
    assert needs["label_selector"] == {"ray.io/node-id": "!in(a1,b2)"}


def test_results_and_losses_are_told_once(cluster):
    ray = cluster({"CPU": 2.0})
    engine = RayEngine("head:6379")
    assert ray.address == "head:6379"
    assert engine.poll() == []
    shared = {"plan": "large"}
    engine.submit([Task(name, "cpu", {}, shared) for name in "abc"])
    assert ray.kept == [shared], "what tasks share is kept once"
    assert len(ray.needs) == 1
    ended = Ended("a", {"run.json": b"{}"}, place="node")
    ray.results = {"reference of a": ended, "reference of b": RayError("\nThe node died.\nMore.")}
    first, lost = engine.poll()
    assert first == ended
    assert (lost.name, lost.code) == ("b", Exit.MEASURING_FAILED)
    assert lost.said == "it was lost: The node died."
    assert engine.poll() == []
    engine.cancel()
    assert ray.cancelled == ["reference of c"]
    assert ray.is_left


def test_where_no_cluster_is_it_says_how_to_begin_one(cluster):
    cluster().is_there = False
    with pytest.raises(MeasuringFailed, match="no Ray cluster at this host: Could not find any"):
        RayEngine()
