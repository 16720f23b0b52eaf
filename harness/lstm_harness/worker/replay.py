"""A pass replayed from a CUDA graph: `launch = graph`."""

import torch

from lstm_harness.worker.inputs import Inputs, on_batched
from lstm_harness.worker.passes import Pass, State


def replayed(eager: Pass, inputs: Inputs, *, fresh_graph: bool) -> Pass:
    """Capture a pass once, on memory of its own; executing it replays the capture.

    Args:
        inputs: their shapes are used; their numbers are not kept.
        fresh_graph: True for `backward`, whose forward is captured separately and replayed untimed.
    """
    static = on_batched(inputs, torch.Tensor.clone)
    _warm_up(eager, static)
    before, timed = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    if fresh_graph:
        with torch.cuda.graph(before):
            state = eager.prepare(static)
    else:
        state = eager.prepare(static)
    with torch.cuda.graph(timed, pool=before.pool() if fresh_graph else None):
        eager.execute(state)

    def prepare(given: Inputs) -> State:
        with torch.no_grad():
            for ours, theirs in zip(static.per_set(), given.per_set(), strict=True):
                ours.copy_(theirs)
        if fresh_graph:
            before.replay()
        return state

    return Pass(prepare, lambda _: timed.replay())


def _warm_up(eager: Pass, static: Inputs) -> None:
    """Run on a side stream first, as capturing requires: lazy initialisation cannot be captured."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            eager.execute(eager.prepare(static))
    torch.cuda.current_stream().wait_stream(side)
