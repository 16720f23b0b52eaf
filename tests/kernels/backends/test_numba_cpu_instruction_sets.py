"""The tests of a layer on numba_cpu pass for other instruction sets than this CPU's widest.

They are the tests that every change runs, in processes that compile for another CPU: modules next
to torch.nn's, vectors made by others, gradients, repeats, threads and lengths, in every dtype. The
instruction sets of this CPU itself are proven by the tests as they are.
"""

from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba_cpu needs numba")

from other_cpus import CPUS, MODULES, layers, needs_emulator, needs_no_amx, passed, variables_of

NAMES = {Path(module).stem for module in MODULES}
OF_INT8 = {"test_numba_cpu_w8"}
# Of a CPU that differs from another in one product alone, the tests of that product.
ONLY_PAIRS = "numba_cpu and (bfloat16 or pairs)"
WITH_PAIRS = {"test_modules", "test_vectors", "test_gradients", "test_numba_cpu_pairs"}
ONLY_INT8 = "numba_cpu and (int8 or w8)"
WITH_INT8 = {"test_vectors"} | OF_INT8
# What compiles with Numba for its own process, forks it, or has many of its threads run kernels.
NOT_EMULATED = "activations or gates_never_leave or forked or at_once"

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("cpu", "selected", "modules"),
    [
        ("x86-64-v4", "numba_cpu", NAMES),
        ("x86-64-v3", "numba_cpu", NAMES),
        ("AVX without FMA", "numba_cpu", NAMES - OF_INT8),
        ("x86-64", "numba_cpu", NAMES - OF_INT8),
        ("AVX512-BF16", ONLY_PAIRS, WITH_PAIRS),
        ("AMX", ONLY_PAIRS, WITH_PAIRS),
        ("AVX-VNNI", ONLY_INT8, WITH_INT8),
    ],
)
def test_the_tests_pass(cpu: str, selected: str, modules: set[str], tmp_path: Path) -> None:
    variables, expected = variables_of(cpu), CPUS[cpu][2]
    told = layers([], **variables)
    assert {name: told[name] for name in expected} == expected
    assert passed(selected, tmp_path, **variables) == modules


def test_the_tests_pass_with_amx_emulated(tmp_path: Path) -> None:
    needs_no_amx()
    # pytest's own handler of an illegal instruction would end the process.
    machine = ("-p", "on_amx", "-p", "no:faulthandler", "--amx", str(tmp_path))
    assert passed(ONLY_PAIRS, tmp_path, *machine, **CPUS["AMX"][0]) == WITH_PAIRS


def test_the_tests_pass_on_an_emulated_aarch64(tmp_path: Path) -> None:
    needs_emulator()
    machine = ("-p", "on_aarch64", "--emulated", "generic", "cortex-a57", str(tmp_path))
    selected = f"numba_cpu and not ({NOT_EMULATED})"
    assert passed(selected, tmp_path, *machine) == NAMES - OF_INT8
