"""Two hosts write one store at once: nothing lost, nothing twice, and nobody reads half a run.

A host is a network namespace: it reaches the server by its own address, and nothing else.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench import environment
from places import SUPPORT
from s3_server import BUCKET, ENVIRONMENT
from waiting import PATIENCE_S

PORT = 9000
SERVER = "lstm-store"
HOSTS = {"lstm-one": 1, "lstm-two": 2, "lstm-reader": 3}


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


def start(host, arguments, folder, **more):
    """A program of tests/support on a host."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        ["ip", "netns", "exec", host, sys.executable, *map(str, arguments)],
        cwd=folder,
        env=environment(folder, SUPPORT) | ENVIRONMENT | more,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def network(worker_id):
    """A server's namespace and three hosts', each with a cable to it."""
    mine = f"-{worker_id}-{os.getpid()}"
    made = ip("netns", "add", SERVER + mine) if Path("/usr/sbin/ip").exists() else None
    if made is None or made.returncode:
        pytest.skip(f"needs network namespaces: {made.stderr.strip() if made else 'no ip here'}")
    namespaces = [SERVER + mine]
    try:
        ip("-n", SERVER + mine, "link", "set", "lo", "up")
        for name, number in HOSTS.items():
            host = name + mine
            namespaces.append(host)
            done = [
                ip("netns", "add", host),
                ip(
                    *("link", "add", "eth0", "netns", host, "type", "veth"),
                    *("peer", "name", f"eth{number}", "netns", SERVER + mine),
                ),
                ip("-n", host, "addr", "add", f"10.77.{number}.2/24", "dev", "eth0"),
                ip("-n", host, "link", "set", "eth0", "up"),
                ip(
                    "-n",
                    SERVER + mine,
                    "addr",
                    "add",
                    f"10.77.{number}.1/24",
                    "dev",
                    f"eth{number}",
                ),
                ip("-n", SERVER + mine, "link", "set", f"eth{number}", "up"),
            ]
            assert not [step.stderr for step in done if step.returncode]
        yield mine
    finally:
        for namespace in namespaces:
            ip("netns", "del", namespace)


@pytest.mark.parametrize("races", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_two_hosts_write_one_store_at_once(network, tmp_path, races):
    url, processes = f"s3://{BUCKET}/store", []

    def at(name, *arguments):
        endpoint = {"AWS_ENDPOINT_URL": f"http://10.77.{HOSTS[name]}.1:{PORT}"}
        program = [SUPPORT / "store_hosts.py", *arguments]
        processes.append(start(name + network, program, tmp_path / name, **endpoint))
        return processes[-1]

    try:
        server = start(SERVER + network, [SUPPORT / "s3_server.py", PORT], tmp_path / "server")
        processes.append(server)
        assert server.stdout.readline() == "ready\n"
        reader = at("lstm-reader", "read", url)
        writers = [at(name, "write", name, url) for name in ("lstm-one", "lstm-two")]
        published = [_race(writers) for _ in range(races)]
        for writer in writers:
            writer.stdin.close()
            assert writer.wait(PATIENCE_S) == 0
        # One more look, by a reader that has seen nothing yet.
        (last, seen) = (_answer(each) for each in (at("lstm-one", "read", url), reader))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    # One of the two won each name; each run is there once, with its own records.
    assert all({each["took"] for each in pair} == {True, False} for pair in published)
    digests = [each["digest"] for pair in published for each in pair]
    assert len({*digests}) == 2 * races
    assert sorted(last["digests"].values()) == sorted(digests)
    assert {f"race-{number}" for number in range(races)} < last["digests"].keys()
    assert seen["polls"] > 0
    assert seen["digests"].items() <= last["digests"].items()


def _race(writers):
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    return [json.loads(writer.stdout.readline()) for writer in writers]


def _answer(reader):
    """What a reader saw, once it has seen all there is at that moment."""
    out, _ = reader.communicate(timeout=PATIENCE_S)
    assert reader.returncode == 0
    return json.loads(out)
