"""A fleet on a Ray cluster of three nodes that loses one of them, and then its coordinator."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from bench import bench, environment, manifest_of, start
from simulated_hosts import Host, until
from small_fleet import (
    AB_SUITE,
    SUITE,
    digests,
    refuse_anything_but_both,
    refuse_anything_but_the_plan,
    repository,
    tasks_below,
    wait_for_parts,
)

import lstm_kernels

NODES = ("ray-a", "ray-b", "ray-c")
# A node that is gone is noticed after two seconds.
NOTICED = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The address of a cluster, and its hosts by name."""
    from ray.cluster_utils import Cluster

    # The paths of sockets have at most 107 bytes.
    own = {"RAY_TMPDIR": tempfile.mkdtemp(prefix="ray-")}
    for name, value in (environment(tmp_path) | own).items():
        monkeypatch.setenv(name, value)
    made, hosts = Cluster(), {}
    for name in NODES:
        hosts[name] = Host(name)
        first = {"_system_config": NOTICED} if not made.head_node else {}
        made.add_node(num_cpus=1, include_dashboard=False, object_store_memory=80 << 20, **first)
    Host("desk")
    yield made, hosts
    made.shutdown()
    for host in hosts.values():
        host.cut()
    shutil.rmtree(own["RAY_TMPDIR"], ignore_errors=True)


def test_it_loses_a_node_and_its_coordinator_and_ends_with_the_plan(cluster, tmp_path):
    made, hosts = cluster
    run, fleet = tmp_path / "run", f"fleet {SUITE} --engine ray --address {made.address}"
    first = start(f"{fleet} --out run", tmp_path)
    wait_for_parts(run, 1, first)
    until(lambda: len(tasks_below(tmp_path)) == 3, "a task on every node")
    assert hosts["ray-c"].cut()
    wait_for_parts(run, 3, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = digests(run)
    assert 3 <= len(before) < 6
    until(lambda: not tasks_below(tmp_path), "the end of the tasks of a killed coordinator")

    done = bench("fleet --resume run --quiet", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "run/report.html"
    refuse_anything_but_the_plan(run, before)
    assert {machine for part in manifest_of(run)["parts"] for machine in part["machines"]} <= {
        *NODES
    }
    assert os.uname().nodename == "desk"


def test_two_revisions_lose_a_node_and_their_coordinator_and_end_with_the_plan(cluster, tmp_path):
    made, hosts = cluster
    run, here = tmp_path / "ab", {"env": environment(tmp_path)}
    repo = repository(tmp_path)
    engine = f"--engine ray --address {made.address}"
    first = start(f"ab {AB_SUITE} {engine} --out {run}", repo, **here)
    wait_for_parts(run, 1, first)
    assert hosts["ray-c"].cut()
    wait_for_parts(run, 2, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = digests(run, "base")

    done = bench(f"ab --resume {run} --json --quiet", repo, **here)
    assert done.returncode in (0, 1, 3), done.stderr
    refuse_anything_but_both(run, before)
    machines = {name for part in manifest_of(run / "new")["parts"] for name in part["machines"]}
    assert machines <= {*NODES}


def test_a_node_with_other_kernels_measures_nothing(cluster, tmp_path, monkeypatch):
    """It joins when the plan is there, and its refusal is told once."""
    made, hosts = cluster
    hosts["ray-b"].cut()
    hosts["ray-c"].cut()
    run = tmp_path / "run"
    first = start(f"fleet {SUITE} --engine ray --address {made.address} --out run", tmp_path)
    until((run / "plan").exists, "the plan")

    edited = tmp_path / "edited" / "lstm_kernels"
    shutil.copytree(Path(lstm_kernels.__file__).parent, edited)
    (edited / "problem.py").open("a").write("# edited\n")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(edited.parent), os.environ["PYTHONPATH"]])
    )
    hosts["odd"] = Host("odd")
    made.add_node(num_cpus=1, object_store_memory=80 << 20)
    Host("desk")

    _, said = first.communicate(timeout=600)
    assert first.returncode == 0, said
    told = [line for line in said.splitlines() if "measures nothing of this run" in line]
    assert len(told) == 1
    assert "the kernels' sources" in told[0]
    refuse_anything_but_the_plan(run, {})
    assert {name for part in manifest_of(run)["parts"] for name in part["machines"]} == {"ray-a"}
