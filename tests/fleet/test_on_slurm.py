"""A fleet on a Slurm of three nodes that loses one of them, and then its coordinator."""

import signal

import pytest
import small_slurm
from bench import bench, environment, manifest_of, start
from simulated_hosts import until
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

NODES = ("slurm-a", "slurm-b", "slurm-c")


@pytest.fixture
def slurm(tmp_path):
    """What its programs are started with, and its hosts by name."""
    if missing := small_slurm.missing():
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    with small_slurm.slurm(tmp_path / "slurm", NODES) as (variables, hosts):
        yield environment(tmp_path) | variables, hosts


def test_it_loses_a_node_and_its_coordinator_and_ends_with_the_plan(slurm, tmp_path):
    variables, hosts = slurm
    run = tmp_path / "run"
    first = start(f"fleet {SUITE} --engine slurm --out run", tmp_path, env=variables)
    wait_for_parts(run, 1, first)
    until(lambda: len(tasks_below(tmp_path)) == 3, "a task on every node")
    assert hosts["slurm-c"].cut()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = digests(run)
    assert 1 <= len(before) < 6
    assert tasks_below(tmp_path), "its tasks go on"

    done = bench("fleet --resume run --quiet", tmp_path, env=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "run/report.html"
    refuse_anything_but_the_plan(run, before)
    machines = {name for part in manifest_of(run)["parts"] for name in part["machines"]}
    assert machines <= {*NODES}


def test_two_revisions_lose_their_coordinator_and_end_with_the_plan(slurm, tmp_path):
    variables, _ = slurm
    run, repo = tmp_path / "ab", repository(tmp_path)
    first = start(f"ab {AB_SUITE} --engine slurm --out {run}", repo, env=variables)
    wait_for_parts(run, 1, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = digests(run, "base")

    done = bench(f"ab --resume {run} --json --quiet", repo, env=variables)
    assert done.returncode in (0, 1, 3), done.stderr
    refuse_anything_but_both(run, before)
    machines = {name for part in manifest_of(run / "new")["parts"] for name in part["machines"]}
    assert machines <= {*NODES}
