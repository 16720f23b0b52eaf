"""A launch runs, and compiles with no GPU to what the JIT would make of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT, SUPPORT

from lstm_kernels.gpu.launching import Launch

pytest.importorskip("triton")

ROOTS = [str(ROOT / part) for part in ("kernels", "harness", "tests/support", "tests/gpu")]


@pytest.fixture
def script(tmp_path):
    """Run Python in a process that does not interpret, with a cache of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    clean |= {"TRITON_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(ROOTS)}

    def run(*arguments, **environment):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            env=clean | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_compiles_what_the_jit_compiles(script):
    calls = json.loads(script(SUPPORT / "as_the_jit.py"))
    assert len(calls) >= 16
    # A hit in the cache that the JIT filled means the same source, signature, constants,
    # attributes and options.
    assert {name for name, each in calls.items() if not each["cached"]} == set()
    assert {name for name, each in calls.items() if not each["same"]} == set()
    keys = {name: each["key"] for name, each in calls.items()}
    assert len(set(keys.values())) == len(keys), "two calls that differ share a key"


def test_kernels_are_built_ahead_once_with_what_launches_them(script):
    found = json.loads(script(SUPPORT / "built_ahead.py"))
    # A backend may launch a kernel at every step.
    assert 0 < found["kernels"] < found["launches"] / 4
    assert found["failed"] == ""
    name = "forward_kernel"
    assert found["asked"] == [f"builds what launches {name}", f"loads {name}"]


KEYS = """
import small_kernels as small
key = lambda arch="sm_90", **sizes: small.recurrent_launch(**sizes).key(arch)
assert key(T=17) == key(T=18), "T is no constant"
assert key(T=17) != key(T=16), "a multiple of 16 is specialised"
assert key(T=17) != key(T=17, H=32)
assert key(T=17) != key(T=17, dtype="bfloat16")
assert key(T=17) != key("sm_80", T=17)
"""


def test_key_is_shared_by_those_who_share_a_kernel(script):
    script("-c", KEYS)


def test_run_hands_everything_to_triton():
    class Kernel:
        def __getitem__(self, grid):
            return lambda **given: calls.append((grid, given))

    calls = []
    Launch(Kernel(), (2, 3), {"x": 1, "y": None}, {"num_warps": 8}, "some", {"B": 4}).run()
    assert calls == [((2, 3), {"x": 1, "y": None, "num_warps": 8})]


INTERPRETED = """
import torch, triton, triton.language as tl
from lstm_kernels.gpu.launching import Launch
import pathlib

@triton.jit
def add(x, y, N: tl.constexpr):
    k = tl.program_id(0) * N + tl.arange(0, N)
    v = tl.load(x + k)
    if y is not None:
        v += tl.load(y + k)
    tl.store(x + k, v)

x = torch.arange(8.0)
options = {"num_warps": 4, "launch_cooperative_grid": True, "debug": False}
launch = Launch(add, (2,), {"x": x, "y": torch.ones(8), "N": 4}, options)
launch.run()
assert x.tolist() == [1, 2, 3, 4, 5, 6, 7, 8], x
try:
    launch.compile("sm_90")
except ValueError as error:
    print(error)
"""


def test_interpreted_it_runs_and_does_not_compile(script, tmp_path):
    file = tmp_path / "interpreted.py"
    file.write_text(INTERPRETED)
    assert "TRITON_INTERPRET" in script(file, TRITON_INTERPRET="1")


def test_what_is_no_kernel_is_refused():
    with pytest.raises(ValueError, match=r"give a triton\.jit function"):
        Launch(print, (1,), {}).compile("sm_90")


MOVED = """
import small_kernels as small
from lstm_kernels.gpu.machine_code import facts
image = small.recurrent_launch().compile("sm_90")
print(small.__file__, image.cached, facts(image)["weight_loads"])
"""


@pytest.mark.slow
def test_cache_filled_by_another_checkout_hides_no_weight_loads(script, tmp_path):
    # Triton's cache tells sources apart by their text, so it holds the other checkout's paths.
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(SUPPORT / "small_kernels.py", tmp_path / name)

    def ask(name):
        roots = [str(tmp_path / name), *ROOTS]
        file, cached, loads = script("-c", MOVED, PYTHONPATH=os.pathsep.join(roots)).split()
        assert Path(file).parent.name == name
        return cached, int(loads)

    first = ask("one")
    assert first[0] == "False"
    assert ask("one") == ("True", first[1])
    shutil.rmtree(tmp_path / "one")
    assert ask("two") == ("False", first[1])
    assert first[1] > 0
