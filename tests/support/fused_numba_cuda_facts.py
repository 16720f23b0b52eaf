"""What the Numba CUDA backend compiles, as JSON: what its kernels depend on, and their PTX."""

import json
import sys

from lstm_kernels import Problem
from lstm_kernels.backends import fused_numba_cuda
from lstm_kernels.gpu.numba_launching import NumbaLaunch

ARCH = "sm_90"


def launches(**fields: int) -> dict[str, NumbaLaunch]:
    """The launch of each pass by name."""
    sizes = {"seq_len": 32, "batch": 4, "input_size": 512, "hidden_size": 512} | fields
    return {
        made.name: made for made in fused_numba_cuda.launches_for(Problem("gru", **sizes), ARCH)
    }


def main() -> None:
    """Print it all."""
    # Of B the choice of a block depends, and so how many weights are in registers, but no more.
    shapes = [{}, {"seq_len": 1}, {"seq_len": 1000}, {"batch": 3}, {"batch": 100}]
    of_shapes = [launches(**shape) for shape in shapes]
    other = launches(hidden_size=768)
    streamed = launches(hidden_size=4096)
    told = {
        "code": {
            name: {
                "same": [str(each[name].code()) for each in of_shapes],
                "other H": str(other[name].code()),
            }
            for name in ("forward", "backward")
        },
        "ptx": {name: made.compile(ARCH).ptx for name, made in of_shapes[0].items()},
        "streamed ptx": {name: made.compile(ARCH).ptx for name, made in streamed.items()},
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
