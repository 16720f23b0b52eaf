"""Libraries that compute on threads of their own, in a forked process, which has none of those."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

import lstm_kernels as lk
from lstm_kernels import registry

CODE = """
import os, sys, torch, warnings
warnings.simplefilter("ignore")
import lstm_kernels as lk
module = lk.LSTM(3, 4, backend=sys.argv[1])
torch.set_num_threads(2)
with torch.no_grad():
    module(torch.zeros(2, 1, 3))
    if os.fork() == 0:
        try:
            module(torch.zeros(2, 1, 3))
        except lk.Unsupported as refusal:
            print(refusal, flush=True)
        os._exit(0)
    os.wait()
    module(torch.zeros(2, 1, 3))
"""


@pytest.mark.parametrize("peer", ["jax", "onnxruntime", "openvino"])
def test_it_is_told_and_does_not_wait_for_ever(peer: str) -> None:
    if registry.unsupported(peer, lk.Problem("lstm", 2, 1, 3, 4), "cpu"):
        pytest.skip(f"{peer} is not installed")
    environment = os.environ | {"PYTHONPATH": str(Path(lk.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", CODE, peer],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert "threads do not exist in this forked process" in done.stdout
