"""The private parts of Numba that kernels are compiled with, and kernels from Numba's own cache."""

import ast
import json
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba_cpu needs numba")

import llvmlite.binding as llvm
from other_cpus import python

import lstm_kernels

PARTS = Path(lstm_kernels.__file__).parent / "backends" / "numba_cpu" / "parts.py"


def test_this_numba_has_all_that_kernels_are_compiled_with() -> None:
    from lstm_kernels.backends.numba_cpu import parts

    assert parts.changed() == []


# Imports `parts` where Numba is changed, by one statement each time; what is said of it, as JSON.
CHANGES = """
import importlib, json, sys
from unittest.mock import patch
from lstm_kernels.stack import Unsupported

told = []
for module, name, value in json.loads(sys.argv[1]):
    owner = importlib.import_module(module)
    *path, name = name.split(".")
    for each in path:
        owner = getattr(owner, each)
    with patch.object(owner, name, eval(value) if value else None):
        if not value:
            delattr(owner, name)
        try:
            importlib.import_module("lstm_kernels.backends.numba_cpu.parts")
        except Unsupported as refusal:
            told.append(str(refusal))
print(json.dumps(told))
"""


def said_of(changes: list[tuple[str, str, str]]) -> list[str]:
    """What is said where a name of a module of Numba's is gone, or is something else."""
    done = python("-c", CHANGES, json.dumps(changes))
    assert done.returncode == 0, done.stderr[-3000:]
    told: list[str] = json.loads(done.stdout)
    assert len(told) == len(changes)
    for line in told:
        assert line.startswith("numba ")
        assert " is not one that kernels can be compiled with: " in line
        assert line.endswith("; install an earlier numba")
        assert "\n" not in line
    return told


def imported() -> list[tuple[str, str]]:
    """The names that `parts` takes from Numba where it looks whether they are there."""
    (looks,) = [node for node in ast.parse(PARTS.read_text()).body if isinstance(node, ast.Try)]
    imports = [node for node in looks.body if isinstance(node, ast.ImportFrom)]
    return [(node.module or "", alias.name) for node in imports for alias in node.names]


def test_a_part_that_is_gone_is_told_by_name() -> None:
    names = imported()
    assert len(names) > 15
    told = said_of([(module, name, "") for module, name in names])
    for line, (module, name) in zip(told, names, strict=True):
        assert f"cannot import name {name!r} from {module!r}; install" in line


def test_a_part_that_is_otherwise_is_told_by_name() -> None:
    changes = {
        ("numba.core.lowering", "Lower", "lambda context, library, fndesc: None"): (
            "Lower takes other arguments, too many positional arguments"
        ),
        ("numba.core.compiler", "_LowerResult", "lambda fndesc, helper, cfunc, env, more: None"): (
            "_LowerResult takes other arguments, missing a required argument: 'more'"
        ),
        (
            "numba.core.funcdesc",
            "PythonFunctionDescriptor.from_specialized_function",
            "staticmethod(lambda a, b, c, d, mangler, inline, noalias: None)",
        ): (
            "from_specialized_function takes other arguments, "
            "got an unexpected keyword argument 'abi_tags'"
        ),
        (
            "numba.core.codegen",
            "CodeLibrary",
            "type(owner.CodeLibrary)('CodeLibrary', (owner.CodeLibrary,), "
            "{'to_bitcode': __import__('abc').abstractmethod(lambda self: None)})",
        ): "a CodeLibrary needs to_bitcode",
        (
            "numba.core.codegen",
            "CPUCodegen.create_library",
            "lambda self, name: None",
        ): "a library has no _linking_libraries",
    }
    for line, says in zip(said_of(list(changes)), changes.values(), strict=True):
        assert says in line


# An RNN with each of these in turn, and whether it is as naive's.
RUNS = """
import sys, torch
import lstm_kernels as lk

torch.manual_seed(0)
x = torch.randn(2, 1, 3)
for cell in sys.argv[1:]:
    ours, theirs = (lk.RNN(3, 5, nonlinearity=cell, backend=b) for b in ("numba_cpu", "naive"))
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        print(cell, torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-5))
"""


@pytest.mark.slow
def test_a_kernel_from_numbas_cache_lends_no_function_to_one_that_is_compiled(
    tmp_path: Path,
) -> None:
    """Numba's own cache is used where NUMBA_CPU_NAME is set; two kernels have like-named parts."""
    told = {
        "NUMBA_CPU_NAME": llvm.get_host_cpu_name(),
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    assert python("-c", RUNS, "tanh", **told).stdout == "tanh True\n"
    assert [path.name for path in tmp_path.rglob("*.nbi")] != []
    done = python("-c", RUNS, "tanh", "relu", **told)
    assert (done.returncode, done.stdout) == (0, "tanh True\nrelu True\n"), done.stderr[-3000:]
