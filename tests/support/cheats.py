"""A plugin full of backends that are wrong, each in one way: what the gates must turn red for.

Given to the program with `--plugin`; `harmless` at its end shows that the frame itself is right.
Those who change what is around them are in `meddlers`.
"""

import gc
import os
import sys
import threading
import time
from pathlib import Path

import meddlers
import torch
from honest import Honest, zeros

from lstm_kernels import Backend


class _Scaled(torch.autograd.Function):
    """The same tensor, with so many times its gradient."""

    @staticmethod
    def forward(ctx, tensor, times):
        ctx.times = times
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.times * gradient, None


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        return tensor.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None


class WrongDWhh(Honest):
    def layer(self, x, h0, c0, weights, **rest):
        wrong = tuple(w._replace(w_hh=_Scaled.apply(w.w_hh, 2.0)) for w in weights)
        return super().layer(x, h0, c0, wrong, **rest)


class WrongCn(Honest):
    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        return y, h_n, c_n + 0.01 * c_n.detach()


class NotANumber(Honest):
    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        return y + float("nan"), h_n, c_n


class NoGradients(Honest):
    def layer(self, *given, **rest):
        return tuple(_Cut.apply(out) for out in super().layer(*given, **rest))


class OneGradientLess(Honest):
    def layer(self, x, h0, c0, weights, **rest):
        cut = tuple(w._replace(b_hh=w.b_hh.detach()) for w in weights)
        return super().layer(x, h0, c0, cut, **rest)


class Exits(Honest):
    def layer(self, *given, **rest):
        os._exit(3)


class Sleeps(Honest):
    def layer(self, *given, **rest):
        time.sleep(3600)


class ClosesItsPipes(Honest):
    """Hangs where waiting for the worker's end, instead of for its answer, would hang too."""

    def layer(self, *given, **rest):
        os.closerange(3, 256)
        time.sleep(3600)


class Babbles(Honest):
    """Writes where only replies belong."""

    def layer(self, *given, **rest):
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b"not a reply\n")
            except OSError:
                continue
        return super().layer(*given, **rest)


class OutOfMemory(Honest):
    def layer(self, *given, **rest):
        raise MemoryError


class Raises(Honest):
    def layer(self, *given, **rest):
        raise ZeroDivisionError("two lines\nof <b>text</b>")


class RaisesWhenAsked(Honest):
    def unsupported(self, problem, device):
        raise ZeroDivisionError("asked too much")


class ExitsWhenAsked(Honest):
    def unsupported(self, problem, device):
        os._exit(4)


class MemoOfTheFirst(Honest):
    made = None

    def layer(self, *given, **rest):
        if self.made is None:
            self.made = super().layer(*given, **rest)
        return self.made


class _Memo(Honest):
    """Remembers outcomes by a part of its inputs, which changes less often than the rest."""

    def __init__(self):
        self.made = {}
        self.hits = self.misses = 0

    def layer(self, x, h0, c0, weights, **rest):
        key = self.part(x.detach(), h0.detach()).contiguous().numpy().tobytes()
        if key in self.made:
            self.hits += 1
        else:
            self.misses += 1
            self.made[key] = super().layer(x, h0, c0, weights, **rest)
        return self.made[key]


class MemoOfSome(_Memo):
    def part(self, x, h0):
        return x[-1, -1, -2:]


class MemoOfStates(_Memo):
    def part(self, x, h0):
        return h0


class MemoByRow(_Memo):
    def part(self, x, h0):
        return x[:, -1]


class ReturnsItsInput(Honest):
    """Looks right where a state does not change; this one's does."""

    def layer(self, x, h0, c0, weights, **rest):
        y, _, c_n = super().layer(x, h0, c0, weights, **rest)
        return y, h0.view_as(h0), c_n


class OneOutputForAll(Honest):
    room = None

    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        if self.room is None:
            self.room = torch.empty_like(y)
        return self.room.copy_(y), h_n, c_n


class CutOffTheGraph(Honest):
    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        return y.detach(), h_n, c_n


class GraphInInference(Honest):
    """Saves what only a backward needs; or hopes that someone mistakes it for a forward."""

    def layer(self, *given, **rest):
        with torch.enable_grad():
            x, *others = given
            return super().layer(x.detach().requires_grad_(), *others, **rest)


class Sparse(Honest):
    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        return y.to_sparse(), h_n, c_n


class Parameter(Honest):
    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        return torch.nn.Parameter(y.detach()), h_n, c_n


class ChangesItsInput(Honest):
    def layer(self, x, h0, *given, **rest):
        made = super().layer(x, h0, *given, **rest)
        with torch.no_grad():
            h0.add_(1.0)
        return made


class Lazy(Honest):
    class Tensor(torch.Tensor):
        pass

    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        return y.as_subclass(self.Tensor), h_n, c_n


class WrongShape(Honest):
    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        return y.transpose(0, 1), h_n, c_n


class WrongDtype(Honest):
    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        return y.double(), h_n, c_n


class TwoOutputs(Honest):
    def layer(self, *given, **rest):
        y, h_n, _ = super().layer(*given, **rest)
        return y, h_n, None


class LessPrecise(Honest):
    def layer(self, x, h0, c0, weights, **rest):
        half = tuple(type(w)(*(t.bfloat16() for t in w if t is not None)) for w in weights)
        made = super().layer(x.bfloat16(), h0.bfloat16(), c0.bfloat16(), half, **rest)
        return tuple(out.float() for out in made)


class ReadsUnwritten(Honest):
    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        unwritten = torch.empty_like(y)
        return torch.cat([y[:-1], unwritten[-1:]]), h_n, c_n


class Late(Honest):
    """Returns before a thread of its own has filled the output."""

    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        later = torch.zeros_like(y)
        threading.Timer(0.02, later.copy_, (y,)).start()
        return later, h_n, c_n


class GoesWrong(Honest):
    """Right when it is checked, wrong from its fifth execution on."""

    executions = 0

    def layer(self, *given, **rest):
        self.executions += 1
        y, h_n, c_n = super().layer(*given, **rest)
        return (y, h_n, c_n) if self.executions < 5 else (y * 1.1, h_n, c_n)


class Prints(Honest):
    def layer(self, *given, **rest):
        sys.stdout.write('{"ok": null}\n')
        os.write(1, b'{"ok": null}\n')
        sys.stdout.flush()
        return super().layer(*given, **rest)


class OneGradientOffByAHundredth(Honest):
    def layer(self, x, h0, c0, weights, **rest):
        off = tuple(w._replace(b_ih=_Scaled.apply(w.b_ih, 1.01)) for w in weights)
        return super().layer(x, h0, c0, off, **rest)


class _Remembered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, made):
        ctx.made = made
        return y.clone()

    @staticmethod
    def backward(ctx, d_y):
        return ctx.made.setdefault(d_y.shape, d_y.clone()), None


class MemoByDY(Honest):
    """Remembers gradients by the shape of what they start from."""

    def __init__(self):
        self.made = {}

    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        return _Remembered.apply(y, self.made), h_n, c_n


class ChangesItsClass(Honest):
    """Does its work when somebody first looks, and is a plain tensor from then on."""

    class Tensor(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            for tensor in args:
                if type(tensor) is cls:
                    tensor.__class__ = torch.Tensor
            return function(*args, **(kwargs or {}))

    def layer(self, *given, **rest):
        y, h_n, c_n = super().layer(*given, **rest)
        y.__class__ = self.Tensor
        return y, h_n, c_n


class SumOfEarlier(Honest):
    """Knows the outcome of sums of inputs it has seen: as if a layer were linear."""

    def __init__(self):
        self.seen = []

    def layer(self, x, *given, **rest):
        if len(self.seen) < 4:
            made = super().layer(x, *given, **rest)
            self.seen.append((x.detach().flatten(), [out.detach() for out in made]))
            return made
        known = torch.stack([seen for seen, _ in self.seen], dim=1)
        parts = torch.linalg.lstsq(known, x.detach().flatten()[:, None]).solution.flatten()
        outs = zip(*(made for _, made in self.seen), strict=True)
        return tuple(sum(p * out for p, out in zip(parts, group, strict=True)) for group in outs)


class HalfTheSteps(Honest):
    """Leaves half the work undone once it was checked."""

    executions = 0

    def layer(self, x, *given, **rest):
        self.executions += 1
        y, h_n, c_n = super().layer(x, *given, **rest)
        half = len(x) // 2 if self.executions > 4 else len(x)
        return torch.cat([y[:half], torch.zeros_like(y[half:])]), h_n, c_n


class OldWeights(Honest):
    """Packs weights once, by where they lie, and never looks again."""

    def __init__(self):
        self.packed = {}

    def layer(self, x, h0, c0, weights, **rest):
        key = weights[0].w_hh.data_ptr()
        if key not in self.packed:
            self.packed[key] = weights[0].w_hh.detach().clone()
        old = self.packed[key] + weights[0].w_hh - weights[0].w_hh.detach()
        return super().layer(x, h0, c0, (weights[0]._replace(w_hh=old), *weights[1:]), **rest)


class RecognisesInputs(Honest):
    """Works on the inputs that everyone can make from the seed, and on no others."""

    def layer(self, x, *given, problem, **rest):
        from lstm_harness.worker.inputs import make_inputs

        made = super().layer(x, *given, problem=problem, **rest)
        known = make_inputs(problem, SEED, 0, "cpu").x
        return made if torch.equal(x.detach(), known) else zeros(made)


class GradientsAhead(Honest):
    """Makes its gradients in the forward, from what lies on the stack for them to start from."""

    def layer(self, *given, **rest):
        frame, found = sys._getframe(), None
        while frame and found is None:
            found = getattr(frame.f_locals.get("inputs"), "d_y", None)
            frame = frame.f_back
        y, h_n, c_n = super().layer(*given, **rest)
        return (_Ahead.apply(y, found.clone()), h_n, c_n) if y.requires_grad else (y, h_n, c_n)


class _Ahead(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, ahead):
        ctx.ahead = ahead
        return y.clone()

    @staticmethod
    def backward(ctx, d_y):
        return ctx.ahead, None


class ReadsTheAnswer(Honest):
    """Hopes that the answer lies on a disk, in its process, or on its stack."""

    def layer(self, *given, **rest):
        made = super().layer(*given, **rest)
        for path in Path(os.environ["TRITON_CACHE_DIR"]).parent.rglob("answer*"):
            return tuple(torch.load(path)["sets"][0][name][0] for name in ("y", "h_n", "c_n"))
        for held in gc.get_objects():
            if type(held).__name__ == "Answer":
                return tuple(held.tensors[name][0].float() for name in ("y", "h_n", "c_n"))
        return zeros(made)


class RewritesTheAnswer(Honest):
    """Hopes that what is compared with lies where it can write."""

    def layer(self, *given, **rest):
        for path in Path(os.environ["TRITON_CACHE_DIR"]).parent.rglob("answer*"):
            path.write_bytes(b"")
        return zeros(super().layer(*given, **rest))


# What the tests' runs are seeded with.
SEED = 5
_ANY = ("inference", "forward", "backward", "train")
_NO_GRADIENTS = ("inference",)
_CHEATS = {
    "wrong_d_w_hh": (WrongDWhh, _ANY),
    "wrong_c_n": (WrongCn, _ANY),
    "not_a_number": (NotANumber, _ANY),
    "no_gradients": (NoGradients, _ANY),
    "one_gradient_less": (OneGradientLess, _ANY),
    "exits": (Exits, _ANY),
    "sleeps": (Sleeps, _ANY),
    "closes_its_pipes": (ClosesItsPipes, _ANY),
    "babbles": (Babbles, _ANY),
    "out_of_memory": (OutOfMemory, _ANY),
    "raises": (Raises, _ANY),
    "raises_when_asked": (RaisesWhenAsked, _ANY),
    "exits_when_asked": (ExitsWhenAsked, _ANY),
    "memo_of_the_first": (MemoOfTheFirst, _NO_GRADIENTS),
    "memo_of_some": (MemoOfSome, _NO_GRADIENTS),
    "memo_of_states": (MemoOfStates, _NO_GRADIENTS),
    "memo_by_row": (MemoByRow, _NO_GRADIENTS),
    "returns_its_input": (ReturnsItsInput, _ANY),
    "one_output_for_all": (OneOutputForAll, _NO_GRADIENTS),
    "cut_off_the_graph": (CutOffTheGraph, _ANY),
    "graph_in_inference": (GraphInInference, _NO_GRADIENTS),
    "sparse": (Sparse, _ANY),
    "parameter": (Parameter, _ANY),
    "changes_its_input": (ChangesItsInput, _NO_GRADIENTS),
    "lazy": (Lazy, _ANY),
    "wrong_shape": (WrongShape, _ANY),
    "wrong_dtype": (WrongDtype, _ANY),
    "two_outputs": (TwoOutputs, _ANY),
    "less_precise": (LessPrecise, _ANY),
    "reads_unwritten": (ReadsUnwritten, _ANY),
    "late": (Late, _NO_GRADIENTS),
    "goes_wrong": (GoesWrong, _NO_GRADIENTS),
    "prints": (Prints, _ANY),
    "one_gradient_off_by_a_hundredth": (OneGradientOffByAHundredth, _ANY),
    "memo_by_d_y": (MemoByDY, _ANY),
    "changes_its_class": (ChangesItsClass, _ANY),
    "sum_of_earlier": (SumOfEarlier, _NO_GRADIENTS),
    "half_the_steps": (HalfTheSteps, _ANY),
    "old_weights": (OldWeights, _ANY),
    "recognises_inputs": (RecognisesInputs, _ANY),
    "gradients_ahead": (GradientsAhead, _ANY),
    "reads_the_answer": (ReadsTheAnswer, _ANY),
    "rewrites_the_answer": (RewritesTheAnswer, _ANY),
    "slows_the_clock": (meddlers.SlowsTheClock, _ANY),
    "slows_the_clock_of_short_samples": (meddlers.SlowsTheClockOfShortSamples, _ANY),
    "slows_the_clock_unless_doubted": (meddlers.SlowsTheClockUnlessDoubted, _ANY),
    "stops_the_clock": (meddlers.StopsTheClock, _ANY),
    "turns_back_the_clock": (meddlers.TurnsBackTheClock, _ANY),
    "tells_of_more_time": (meddlers.TellsOfMoreTime, _ANY),
    "widens_the_tolerance": (meddlers.WidensTheTolerance, _ANY),
    "has_no_norm": (meddlers.HasNoNorm, _ANY),
    "judges_itself": (meddlers.JudgesItself, _ANY),
    "executes_nothing": (meddlers.ExecutesNothing, _ANY),
    "executes_ahead": (meddlers.ExecutesAhead, _ANY),
    "hands_over_old": (meddlers.HandsOverOld, _ANY),
    "keeps_a_hand_on_it": (meddlers.KeepsAHandOnIt, _ANY),
    "hands_over_another_file": (meddlers.HandsOverAnotherFile, _ANY),
    "hands_over_less": (meddlers.HandsOverLess, _ANY),
    "forges_replies": (meddlers.ForgesReplies, _ANY),
    "replays_replies": (meddlers.ReplaysReplies, _ANY),
    "edits_records": (meddlers.EditsRecords, _ANY),
    "edits_the_manifest": (meddlers.EditsTheManifest, _ANY),
    "replaces_records": (meddlers.ReplacesRecords, _ANY),
    "ends_its_rivals": (meddlers.EndsItsRivals, _ANY),
    "leaves_a_child": (meddlers.LeavesAChild, _ANY),
    "leaves_a_daemon": (meddlers.LeavesADaemon, _ANY),
    "works_in_children": (meddlers.WorksInChildren, _ANY),
    "more_threads": (meddlers.MoreThreads, _ANY),
    "inference_only": (Honest, _NO_GRADIENTS),
    "harmless": (Honest, _ANY),
}
OBJECTS = {name: kind() for name, (kind, _) in _CHEATS.items()}
globals().update(OBJECTS)

BACKENDS = [
    Backend(name, f"{__name__}:{name}", "a cheat", ("cpu",), passes=passes)
    for name, (_, passes) in _CHEATS.items()
]
