"""What the Triton backend compiles, as JSON: keys of its kernels over shapes, and their PTX."""

import json
import sys

from lstm_kernels import Problem
from lstm_kernels.backends import fused_triton
from lstm_kernels.gpu.launching import Launch

ARCH = "sm_90"


def launches(**fields: int) -> dict[str, Launch]:
    """The launch of each pass, for training, by name."""
    sizes = {"seq_len": 32, "batch": 16, "input_size": 512, "hidden_size": 512} | fields
    made = fused_triton.launches_for(Problem("lstm", dtype="float16", **sizes), ARCH)
    return {
        launch.kernel.__name__: launch
        for launch in made
        if launch.arguments["gates_ptr"] is not None and not launch.arguments.get("PREACTIVATED")
    }


def main() -> None:
    """Print it all."""
    shapes = [{}, {"seq_len": 1}, {"seq_len": 7}, {"seq_len": 1000}, {"batch": 1}, {"batch": 13}]
    of_shapes = [launches(**shape) for shape in shapes]
    other = launches(hidden_size=768)
    own = launches(hidden_size=64)
    told = {
        "keys": {
            name: {
                "same tile": [each[name].key(ARCH) for each in of_shapes],
                "other H": other[name].key(ARCH),
            }
            for name in ("forward", "backward")
        },
        "ptx": {name: launch.compile(ARCH).ptx for name, launch in of_shapes[0].items()},
        "own ptx": own["forward"].compile(ARCH).ptx,
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
