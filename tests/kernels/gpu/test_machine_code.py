"""Facts of real kernels' machine code; they are compiled in a process that does not interpret."""

import json
import os
import re
import subprocess
import sys

import pytest
from places import ROOT

from lstm_kernels.gpu import machine_code
from lstm_kernels.gpu.machine_code import ARCHITECTURES, architecture, predict_occupancy

pytest.importorskip("triton")

ROOTS = [str(ROOT / part) for part in ("kernels", "harness", "tests/support")]

# One worker compiles for all the tests here.
pytestmark = pytest.mark.xdist_group("machine-code")


@pytest.fixture(scope="module")
def compiling(tmp_path_factory):
    """An environment in which Triton compiles, into a cache of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    cache = {"TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    return clean | cache | {"PYTHONPATH": os.pathsep.join(ROOTS)}


@pytest.fixture(scope="module")
def small(compiling):
    """The facts of every kernel in tests/support/small_kernels.py, by name and architecture."""
    script = [sys.executable, str(ROOT / "tests/support/small_kernels.py")]
    done = subprocess.run(script, env=compiling, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# w is [64, 64] in 16 bits, and each of 128 threads loads 16 bytes at once.
LOADS = 64 * 64 * 2 // (128 * 16)
HOW = [*(("", arch) for arch in ARCHITECTURES), (" by another", "sm_80")]


def loads_in_loop(facts):
    return sum(facts["instructions"].get(name, 0) for name in ("LDG", "LDGSTS"))


@pytest.mark.parametrize(("how", "arch"), HOW)
def test_weights_loaded_before_the_loop_are_not_in_it(small, how, arch):
    facts = small["resident" + how][arch]
    assert facts["weight_loads"] == LOADS
    assert facts["weight_loads_in_loop"] == 0
    # The inputs are loaded in the loop, and nobody takes them for weights.
    assert loads_in_loop(facts) > 0


@pytest.mark.parametrize(("how", "arch"), HOW)
def test_weights_loaded_in_the_loop_are_found_there(small, how, arch):
    facts = small["streamed" + how][arch]
    assert facts["weight_loads_in_loop"] == LOADS
    # The compiler loads those of the first steps ahead, before the loop.
    assert facts["weight_loads"] > LOADS
    assert loads_in_loop(facts) > LOADS


@pytest.mark.parametrize(
    ("arch", "family"), [("sm_80", "HMMA"), ("sm_90", "HGMMA"), ("sm_100", "UTCHMMA")]
)
def test_matrix_instructions(small, arch, family):
    facts = small["resident"][arch]["matrix_instructions"]
    assert facts.keys() == {family}
    assert facts[family] > 0


def test_matrix_instructions_by_dtype(small):
    assert small["bfloat16"]["sm_80"]["matrix_instructions"].keys() == {"HMMA"}
    assert small["float32"]["sm_80"]["matrix_instructions"] == {}
    assert small["float32"]["sm_80"]["instructions"]["FFMA"] > 0


def test_spills_are_told_from_a_stack_that_is_asked_for(small):
    spilling, printing = small["spilling"]["sm_80"], small["printing"]["sm_80"]
    assert spilling["stack_bytes"] > 0
    assert spilling["spill_bytes"] > 0
    assert printing["stack_bytes"] > 0
    assert printing["spill_bytes"] == 0
    for facts in small["resident"].values():
        assert facts["stack_bytes"] == facts["spill_bytes"] == 0


def test_spill_bytes_are_what_ptxas_reports(small, tmp_path):
    knobs = pytest.importorskip("triton.knobs")
    facts = small["spilling"]["sm_80"]
    source = tmp_path / "spilling.ptx"
    source.write_text(facts["ptx"])
    told = []
    # The two assemblers that Triton carries: it takes the newer one for newer PTX.
    for tool in (knobs.nvidia.ptxas.path, knobs.nvidia.ptxas_blackwell.path):
        flags = ["-v", "-lineinfo", "--gpu-name=sm_80", "-o", str(tmp_path / "out")]
        done = subprocess.run(
            [tool, *flags, str(source)], capture_output=True, text=True, check=False
        )
        counts = re.findall(r"(\d+) bytes spill (?:stores|loads)", done.stderr)
        told += [sum(map(int, counts))] if counts else []
    assert facts["spill_bytes"] in told


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_shared_memory_and_threads_are_a_blocks(small, arch):
    facts = small["resident"][arch]
    assert facts["threads"] == 128
    # w, h and x are [64, 64] in 16 bits; h and x may be there more than once.
    assert 64 * 64 * 2 <= facts["shared_bytes"] <= 5 * 64 * 64 * 2


def test_a_kernel_of_one_warp_with_no_shared_memory(small):
    assert small["printing"]["sm_80"]["shared_bytes"] == 0
    assert small["printing"]["sm_80"]["threads"] == 32


SASS = """
kernel:
.text.kernel:
	//## File ".nv_debug_ptx_txt", line 30
        /*0000*/                   LDG.E R4, desc[UR4][R2.64] ;
        /*0010*/               @P0 BRA `(.L_rare) ;
.L_head:
	//## File ".nv_debug_ptx_txt", line 40
        /*0020*/                   LDG.E R5, desc[UR4][R2.64] ;
.L_spin:
        /*0030*/                   LD.E.STRONG.GPU R6, desc[UR4][R8.64] ;
        /*0040*/              @!P1 BRA `(.L_spin) ;
        /*0050*/                   CALL.REL.NOINC `($divide) ;
        /*0060*/               @P2 BRA `(.L_head) ;
.L_after:
        /*0070*/                   STG.E desc[UR4][R2.64], R5 ;
        /*0080*/                   EXIT ;
.L_rare:
        /*0090*/                   LDG.E R9, desc[UR4][R2.64] ;
        /*00a0*/                   BRA `(.L_after) ;
$divide:
        /*00b0*/                   LDG.E R10, desc[UR4][R2.64] ;
        /*00c0*/                   RET.REL.NODEC R2 `(kernel) ;
.L_end:
        /*00d0*/                   BRA `(.L_end);
        /*00e0*/                   NOP;
"""


def places(text):
    code = machine_code._parse(text)
    loops = machine_code._find_loops(code, "kernel")
    return code, loops


def test_a_jump_backwards_is_a_loop_only_where_it_leads_round():
    code, loops = places(SASS)
    assert len(code) == 15
    assert loops.count == 2  # the step and the spin in it; neither the rare path nor the padding
    assert loops.largest == (2, 3, 4, 5, 6)
    # What is called from a loop, here at 11 and 12, runs as often.
    assert loops.repeated == {2, 3, 4, 5, 6, 11, 12}
    assert [code[n].ptx_line for n in (0, 2)] == [30, 40]


def test_code_behind_a_return_is_not_a_loop():
    _, loops = places(SASS.replace("BRA `(.L_head)", "EXIT").replace("BRA `(.L_spin)", "EXIT"))
    assert loops.count == 0
    assert loops.repeated == frozenset()
    assert loops.largest == ()


@pytest.mark.parametrize(
    "branch", ["@!P3 BRA `(.L_1)", "BRA P3, `(.L_1)", "BRA.U UP0, `(.L_1)", "BRA.DIV UR4, `(.L_1)"]
)
def test_conditional_branches_go_on_too(branch):
    lines = f".L_0:\n /*0000*/ {branch} ;\n /*0010*/ BRA `(.L_0) ;\n.L_1:\n /*0020*/ EXIT ;\n"
    code, loops = places("kernel:\n" + lines)
    assert code[0].predicated
    assert loops.repeated == {0, 1}


def test_what_never_runs_is_not_counted():
    code, _ = places("kernel:\n /*0000*/ @!PT LDS RZ, [RZ] ;\n /*0010*/ @P0 LDS R1, [R2] ;\n")
    assert [each.opcode for each in code] == ["LDS"]


def test_what_the_memory_model_knows_of_is_counted_apart():
    code, _ = places(
        "kernel:\n /*0000*/ LDG.E.128.STRONG.GPU R4, desc[UR4][R2.64] ;\n"
        " /*0010*/ LDG.E R8, desc[UR4][R2.64] ;\n"
        " /*0020*/ STG.E.STRONG.GPU desc[UR4][R2.64], R8 ;\n"
    )
    found = {"total": 3, "LDG": 2, "LDG.STRONG": 1, "STG": 1, "STG.STRONG": 1}
    assert machine_code._count(code) == found


# By hand from the limits: 64 warps, 65,536 registers in four quarters, 164 and 228 KB of which
# every block takes one more than it asks for.
OCCUPANCY = [
    ("sm_80", 256, 32, 0, 8, "warps"),
    ("sm_80", 256, 33, 0, 6, "registers"),
    ("sm_80", 128, 255, 0, 2, "registers"),
    ("sm_80", 32, 16, 0, 32, "blocks"),
    ("sm_80", 128, 64, 100 * 1024, 1, "shared memory"),
    ("sm_90", 128, 64, 100 * 1024, 2, "shared memory"),
    ("sm_90", 128, 64, 113 * 1024, 2, "shared memory"),
    ("sm_90", 128, 64, 113 * 1024 + 1, 1, "shared memory"),
    ("sm_90", 128, 64, 227 * 1024, 1, "shared memory"),
    ("sm_90", 128, 64, 227 * 1024 + 1, 0, "shared memory"),
    ("sm_80", 128, 64, 164 * 1024, 0, "shared memory"),
    ("sm_100", 1024, 128, 0, 0, "registers"),
    ("sm_100", 512, 128, 0, 1, "registers"),
]


@pytest.mark.parametrize(("arch", "threads", "registers", "shared", "blocks", "limit"), OCCUPANCY)
def test_occupancy(arch, threads, registers, shared, blocks, limit):
    occupancy = predict_occupancy(ARCHITECTURES[arch], threads, registers, shared)
    assert (occupancy["blocks_per_sm"], occupancy["occupancy_limit"]) == (blocks, limit)
    assert occupancy["occupancy"] == blocks * threads / 2048


def test_tensor_memory_bounds_blocks_too():
    occupancy = predict_occupancy(ARCHITECTURES["sm_100"], 128, 32, 0, tensor_memory_columns=256)
    assert (occupancy["blocks_per_sm"], occupancy["occupancy_limit"]) == (2, "tensor memory")


def test_unknown_architecture_is_answered_with_the_known():
    with pytest.raises(ValueError, match="unknown arch 'sm_91'; did you mean 'sm_90'"):
        architecture("sm_91")


def test_importing_it_imports_neither_torch_nor_triton(compiling):
    script = (
        "import sys, lstm_kernels.gpu.machine_code; print({'torch', 'triton'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=compiling, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
