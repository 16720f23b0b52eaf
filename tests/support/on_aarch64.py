"""Layers of numba_cpu whose kernels run on an emulated AArch64: compiled, linked, run by QEMU.

    python on_aarch64.py CPU QEMU_CPU FOLDER CASES
    python -m pytest -p on_aarch64 --emulated CPU QEMU_CPU FOLDER TESTS

For LLVM's CPU, on QEMU's. The first prints what numba_cpu_layers.py does; the second runs tests.
All but the kernels is this process's: for every pass the record and the memory it points into go
to a file, aarch64_driver.c calls the kernel with them, and what it left there comes back.
"""

import ctypes
import json
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import compiled_elsewhere
import torch

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
DRIVER = Path(__file__).with_name("aarch64_driver.c")
# Emulated, a layer takes a second.
REPEATS = 2


class Emulator:
    """Stands for `compiled` and `team.run`: an address of a kernel is its number here."""

    def __init__(self, qemu_cpu: str, folder: Path) -> None:
        self.qemu_cpu, self.folder = qemu_cpu, folder
        self.programs: list[tuple[Path, int]] = []
        self.tensors: list[torch.Tensor] = []

    @cache  # noqa: B019 - one for the whole process
    def compiled(self, pass_name: str, dtype: str, product: str, cell: str, by_head: bool) -> Any:
        """Something with the address of a kernel and its fields."""
        from lstm_kernels.backends.numba_cpu.compiling import KERNELS

        library, symbol = compiled_elsewhere.kernel(pass_name, dtype, cell, product, by_head)
        kernel = self.folder / f"{pass_name}_{dtype}_{cell}_{by_head}"
        kernel.with_suffix(".o").write_bytes(compiled_elsewhere.object_of(library))
        # What only an exception would call is not there.
        unresolved = "-Wl,--unresolved-symbols=ignore-all"
        made = (str(DRIVER), str(kernel.with_suffix(".o")), "-o", str(kernel))
        flags = (f'-DKERNEL="{symbol}"', "-O1", "-Wall", "-Werror", "-static", "-pthread")
        subprocess.run([COMPILER, *flags, unresolved, *made], check=True)
        self.programs.append((kernel, len(KERNELS[pass_name][1])))
        return SimpleNamespace(address=len(self.programs) - 1, fields=KERNELS[pass_name][1])

    def data_ptr(self, tensor: torch.Tensor) -> int:
        """A tensor's address; whatever the record points into was asked for its own."""
        self.tensors.append(tensor)
        return int(torch._C.TensorBase.data_ptr(tensor))

    def run(self, kernel: int, arguments: int, count: int) -> None:
        """A kernel with a record, on so many threads."""
        program, words = self.programs[kernel]
        record = (ctypes.c_int64 * words).from_address(arguments)
        pieces = {}
        for tensor in self.tensors:
            storage = tensor.untyped_storage()
            if storage.nbytes():
                pieces[storage.data_ptr()] = storage.nbytes()
        before, after = self.folder / "before", self.folder / "after"
        with before.open("wb") as file:
            file.write(struct.pack(f"{words + 2}q", words, *record, len(pieces)))
            for address, size in pieces.items():
                file.write(struct.pack("2q", address, size) + ctypes.string_at(address, size))
        command = (EMULATOR, "-cpu", self.qemu_cpu, program, before, after, count)
        subprocess.run([str(part) for part in command], check=True)
        with after.open("rb") as file:
            for address, size in pieces.items():
                ctypes.memmove(address, file.read(size), size)
        self.tensors.clear()


def emulate(cpu: str, qemu_cpu: str, folder: str) -> None:
    """From now on kernels of this process are run by QEMU; before any is imported."""
    compiled_elsewhere.compile_for(compiled_elsewhere.AARCH64, cpu)
    from lstm_kernels.backends.numba_cpu import kept, sequence, team

    # What is kept is of the machine at hand.
    kept.is_told = lambda: True
    emulator = Emulator(qemu_cpu, Path(folder))
    sequence.compiled, team.run = emulator.compiled, emulator.run
    torch.Tensor.data_ptr = lambda tensor: emulator.data_ptr(tensor)


def pytest_addoption(parser: Any) -> None:
    """The machine, as `emulate` takes it."""
    parser.addoption("--emulated", nargs=3, help="LLVM's CPU, QEMU's, and a folder for programs")


def pytest_configure(config: Any) -> None:
    """Before a test module is imported."""
    emulate(*config.getoption("emulated"))


def main(cpu: str, qemu_cpu: str, folder: str, cases: str) -> None:
    """Print what numba_cpu_layers.py would on such a machine."""
    emulate(cpu, qemu_cpu, folder)
    import numba_cpu_layers

    json.dump(numba_cpu_layers.answers(json.loads(cases), REPEATS), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
