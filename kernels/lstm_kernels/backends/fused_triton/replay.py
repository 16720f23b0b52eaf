"""A kernel a step, replayed from a CUDA graph: one launch from the host for a whole sequence.

A graph is captured once for a problem and its weights, over tensors of its own; a call copies its
tensors in, replays, and copies the results out. Weights are read where they are, but those that
are elsewhere at every call are copied, too. Where a caller captures already, and under the
interpreter, the launches are made one by one.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch

from lstm_kernels.backends.fused_triton.launches import RESULTS, WEIGHTS, Backward, Forward
from lstm_kernels.common.captured import capture_stream
from lstm_kernels.gpu.launching import Launch

Tensors = Forward | Backward
Launches = Callable[[Tensors], Iterator[Launch]]

# Graphs kept, each with the memory of its tensors: forward and backward of four layers.
MAX_GRAPHS = 8
# Graphs of one kind that read weights where they are. A model's layers of one shape have a place
# each; what is cast, or made contiguous, has another at every call, and shares one more graph.
MOST_IN_PLACE = 3
# Kinds of calls remembered.
MOST_KINDS = 1024


class StepGraph:
    """The launches of one layer's forward or backward, captured over static tensors.

    `in_place` are those that stay where a caller has them.
    """

    def __init__(self, launches: Launches, tensors: Tensors, in_place: tuple[str, ...]) -> None:
        self.in_place = in_place
        # A graph made during inference serves a later training step too.
        with torch.inference_mode(False):
            self.static = type(tensors)._make(
                tensor if name in in_place or tensor is None else tensor.clone()
                for name, tensor in tensors._asdict().items()
            )
            self.launches = list(launches(self.static))
        # Compiles what is not compiled yet, which a capture cannot.
        for launch in self.launches:
            launch.run()
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        # Other threads, a data loader's say, may use CUDA meanwhile.
        stream = capture_stream(tensors.y.device)
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            for launch in self.launches:
                launch.run()

    def run(self, tensors: Tensors) -> None:
        """Copy in, replay, copy out."""
        results = RESULTS[type(tensors)]
        for name, tensor in tensors._asdict().items():
            # Of a ragged batch the results too: past a sequence's end the caller zeroed them.
            given = name not in results or tensors.lengths is not None
            if tensor is not None and name not in self.in_place and given:
                getattr(self.static, name).copy_(tensor)
        self.graph.replay()
        for name in results:
            tensor = getattr(tensors, name)
            if tensor is not None:
                tensor.copy_(getattr(self.static, name))


_graphs: OrderedDict[tuple[Any, ...], StepGraph] = OrderedDict()
# How many graphs of a kind read weights where they are, those that were let go among them.
_in_place: Counter[tuple[Any, ...]] = Counter()


def replay(key: tuple[Any, ...], launches: Launches, tensors: Tensors) -> None:
    """Run the launches over the tensors, from a graph captured at the first call with this key.

    Args:
        key: everything the launches depend on in addition to shapes and weights.
        launches: makes them for given tensors; T kernels, the same ones at every call.
    """
    if not _has_graphs(tensors.y.device) or torch.cuda.is_current_stream_capturing():
        for launch in launches(tensors):
            launch.run()
        return
    with torch.cuda.device(tensors.y.device):
        _graph_for(key, launches, tensors).run(tensors)


def _has_graphs(device: torch.device) -> bool:
    """Whether launches there can be captured; a test says so of a CPU."""
    return device.type == "cuda"


def _stream_of(device: torch.device) -> int:
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


def _graph_for(key: tuple[Any, ...], launches: Launches, tensors: Tensors) -> StepGraph:
    named = tensors._asdict()
    # On a stream of its own each: a replay fills tensors that another one may be reading.
    kind = (
        *key,
        _stream_of(tensors.y.device),
        *(t if t is None else (t.shape, t.dtype, t.device) for t in named.values()),
    )
    weights = [named[name] for name in WEIGHTS if name in named]
    key = (*kind, tuple(None if w is None else w.data_ptr() for w in weights))
    stay = key in _graphs or _in_place[kind] < MOST_IN_PLACE
    if not stay:
        key = kind
    if key not in _graphs:
        if len(_in_place) > MOST_KINDS:
            _in_place.clear()
        _in_place[kind] += stay
        _graphs[key] = StepGraph(launches, tensors, WEIGHTS if stay else ())
    _graphs.move_to_end(key)
    while len(_graphs) > MAX_GRAPHS:
        _graphs.popitem(last=False)
    return _graphs[key]
