"""A plugin full of backends that are wrong, each in one way: what the gates must turn red for.

Given to the program with `--plugin`; `harmless` at its end shows that the frame itself is right.
"""

import os
import sys
import threading
import time

import torch

from lstm_kernels import Backend, registry


class Honest:
    """The naive backend; every cheat changes one thing of it."""

    def unsupported(self, problem, device):
        return None

    def layer(self, x, h0, c0, weights, *, problem, lengths=None):
        naive = registry.load("naive")
        return naive.layer(x, h0, c0, weights, problem=problem, lengths=lengths)


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        return tensor.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None


class WrongDWhh(Honest):
    def layer(self, x, h0, c0, weights, **rest):
        wrong = tuple(w._replace(w_hh=_Doubled.apply(w.w_hh)) for w in weights)
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


class MemoByPointer(Honest):
    def __init__(self):
        self.made = {}

    def layer(self, x, *given, **rest):
        if x.data_ptr() not in self.made:
            self.made[x.data_ptr()] = super().layer(x, *given, **rest)
        return self.made[x.data_ptr()]


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
    "memo_by_pointer": (MemoByPointer, _NO_GRADIENTS),
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
    "inference_only": (Honest, _NO_GRADIENTS),
    "harmless": (Honest, _ANY),
}
OBJECTS = {name: kind() for name, (kind, _) in _CHEATS.items()}
globals().update(OBJECTS)

BACKENDS = [
    Backend(name, f"{__name__}:{name}", "a cheat", ("cpu",), passes=passes)
    for name, (_, passes) in _CHEATS.items()
]
