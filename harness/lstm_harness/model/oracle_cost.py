"""Which batch rows the float64 answer is made for; needs no torch, so that planning can ask."""

from lstm_kernels.problem import Problem

# Float64 work, forward and backward of two sets, above which only rows are answered: some five
# seconds on two CPU cores, a second on a data-centre GPU.
MOST_FLOPS = {"cpu": 2e11, "cuda": 3e13}
ROWS = 3


def rows_to_answer(problem: Problem, device: str) -> tuple[int, ...] | None:
    """The batch rows to answer: None for all, else the first, the middle and the last.

    All rows too if a row's answer depends on the others; kernels of older revisions have no such
    cell, and do not say so.
    """
    cost = 2 * problem.flops("train")
    if getattr(problem, "mixes_batch", False):
        return None
    if cost <= MOST_FLOPS[device.partition(":")[0]] or problem.batch <= ROWS:
        return None
    return (0, problem.batch // 2, problem.batch - 1)
