"""What `make bench` would install."""

import os
import shutil
import subprocess

import pytest
from places import ROOT

INSTALLS = ".venv/bin/pip install --quiet --editable"


@pytest.fixture
def installs(tmp_path):
    """What follows the install of `make bench`, where there is an NVIDIA GPU or none."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("no make here")

    def go(*given, gpu):
        if gpu:
            program = tmp_path / "nvidia-smi"
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
        # `command`, which the Makefile asks, is the shell's own.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        kept.pop("EXTRAS", None)
        command = [make, "--dry-run", "--always-make", "SHELL=/bin/sh", *given, "bench"]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=kept | {"PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(INSTALLS)]
        return line.removeprefix(INSTALLS).strip()

    return go


def test_a_cpu_gets_the_lean_install_and_a_gpu_its_kernels(installs):
    assert installs(gpu=False) == "'.'"
    assert installs(gpu=True) == "'.[cuda]'"


def test_extras_may_be_named_or_left_out(installs):
    assert installs("EXTRAS=cuda,store", gpu=False) == "'.[cuda,store]'"
    assert installs("EXTRAS=", gpu=True) == "'.'"
