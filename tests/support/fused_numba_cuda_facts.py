"""What the Numba CUDA backend compiles, as JSON: what its kernels depend on, and their PTX."""

import json
import sys

from lstm_kernels import Problem
from lstm_kernels.backends import fused_numba_cuda
from lstm_kernels.cells import add_cells, cell, exp, log, maximum, minimum, where
from lstm_kernels.gpu.numba_launching import NumbaLaunch

ARCH = "sm_90"


@cell(gates="a b", states="h c", per_unit="u", apart="b")
def of_constants(p, h, c, u):
    """Constants beside whatever a definition may have, but what CUDA's own float64 code has."""
    c = where(c < 0.3, minimum(p.a, 0.7), 0.1) / (1.1 + u * u) + maximum(p.b_x, c)
    return 0.9 * c - p.b_h * 1.3, c


@cell(gates="a", states="h")
def of_functions(p, h):
    """The functions that the cells of this package do not have between them."""
    return log(1.1 + exp(p.a)) + 0.1 * h


def launches(cell: str = "gru", dtype: str = "float32", **fields: int) -> dict[str, NumbaLaunch]:
    """The launch of each pass by name."""
    sizes = {"seq_len": 32, "batch": 4, "input_size": 512, "hidden_size": 512} | fields
    problem = Problem(cell, **sizes, dtype=dtype)
    return {made.name: made for made in fused_numba_cuda.launches_for(problem, ARCH)}


def ptx_of(made: dict[str, NumbaLaunch]) -> dict[str, str]:
    """The PTX of each launch."""
    return {name: each.compile(ARCH).ptx for name, each in made.items()}


def main() -> None:
    """Print it all."""
    # Of B the choice of a block depends, and so how many weights are in registers, but no more.
    shapes = [{}, {"seq_len": 1}, {"seq_len": 1000}, {"batch": 3}, {"batch": 100}]
    of_shapes = [launches(**shape) for shape in shapes]
    other = launches(hidden_size=768)
    streamed = launches(hidden_size=4096)
    # Of cells whose arithmetic is ours alone: CUDA's own float64 tanh has float32 inside.
    double = launches("rnn_relu", "float64")
    double_streamed = launches("rnn_relu", "float64", hidden_size=4096)
    add_cells([of_constants, of_functions], __file__)
    told = {
        "code": {
            name: {
                "same": [str(each[name].code()) for each in of_shapes],
                "other H": str(other[name].code()),
            }
            for name in ("forward", "backward")
        },
        "ptx": ptx_of(of_shapes[0]),
        "streamed ptx": ptx_of(streamed),
        "ptx of others": [
            text
            for name in ("slstm", "lstm_peephole", "indrnn", "of_constants", "of_functions")
            for text in ptx_of(launches(name)).values()
        ],
        "constants ptx": ptx_of(launches("of_constants", hidden_size=4096)),
        "float64 ptx": ptx_of(double),
        "float64 streamed ptx": ptx_of(double_streamed),
        "float64 constants ptx": ptx_of(launches("of_constants", "float64", hidden_size=4096)),
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
