"""What `lstm-bench gradients` finds, made up."""

from lstm_harness.analysis.gradients import Followed, Gradients
from lstm_kernels import Problem


def gradients(*lines, backend="naive", **fields):
    """Of each cell one seed's norms by T - t, or several; of a text, that it is refused for that.

    Args:
        lines: a cell's name and its norms, or a reason.
    """
    followed = [_followed(backend, *line) for line in lines]
    seeds = max((len(one.norms) for one in followed), default=0) or 1
    made = {"seeds": tuple(range(seeds)), "device": "cpu", "environment": {}, "start": ""}
    made |= {"command": ("lstm-bench", "gradients"), "absent": {}}
    return Gradients(tuple(followed), **(made | fields))


def halving(T, every=1.0):
    """The norms of a gradient that halves in so many steps, back over T of them."""
    return tuple(0.5 ** (step / every) for step in range(T + 1))


def _followed(backend, cell, norms):
    if isinstance(norms, str):
        return Followed(backend, Problem(cell, 1, 1, 4, 4), "unsupported", norms)
    by_seed = norms if isinstance(norms[0], tuple) else (norms,)
    problem = Problem(cell, len(by_seed[0]) - 1, 1, 4, 4)
    return Followed(backend, problem, norms=by_seed)
