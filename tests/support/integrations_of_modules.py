"""Rows of docs/compatibility.md: the module as torch.nn's, its inputs, and tools that change it."""

import copy
import faulthandler
import io
import multiprocessing
import pickle
import signal
import warnings
from collections.abc import Callable
from typing import Any

import closeness
import torch
import torch.distributed
from integrations import (
    TORCH_NN,
    B,
    Column,
    Found,
    H,
    I,
    Results,
    T,
    everything,
    graded,
    like,
    numbers,
    of_model,
    row,
    weighed,
)
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence
from waiting import PATIENCE_S

# int8 weights: seven bits and a sign, over few steps.
QUANTIZED = 5e-2


@row("module", "`state_dict` to torch.nn's and back")
def state_dict_exchange(column: Column) -> Found:
    theirs = torch.nn.LSTM(I, H)
    theirs.load_state_dict(column.new().state_dict())
    ours = column.new(seed=7)
    ours.load_state_dict(theirs.state_dict())
    got = {f"ours_{n}": t for n, t in everything(ours).items()}
    got |= {f"theirs_{n}": t for n, t in everything(theirs).items()}
    want = everything(column.exact())
    return Found(got, {f"{who}_{n}": t for who in ("ours", "theirs") for n, t in want.items()})


@row("module", "`copy.deepcopy` after a forward")
def deepcopy(column: Column) -> Found:
    lstm = column.new()
    lstm(numbers(T, B, I))
    return Found(everything(copy.deepcopy(lstm)), everything(column.exact()))


@row("module", "`pickle`, and `torch.save` of the module")
def pickled(column: Column) -> Found:
    lstm = column.new()
    lstm(numbers(T, B, I))
    buffer = io.BytesIO()
    torch.save(pickle.loads(pickle.dumps(lstm)), buffer)
    buffer.seek(0)
    return Found(everything(torch.load(buffer, weights_only=False)), everything(column.exact()))


@row("module", "built on `meta`, then `to_empty`, `load_state_dict`")
def built_on_meta(column: Column) -> Found:
    lstm = column.new(device="meta").to_empty(device="cpu")
    lstm.load_state_dict(column.new().state_dict())
    return Found(everything(lstm), everything(column.exact()))


@row("module", "forward on `meta`: shapes")
def forward_on_meta(column: Column) -> Found:
    y, (h, c) = column.new(device="meta")(torch.empty(T, B, I, device="meta"))
    got = {"y": _shape(y), "h": _shape(h), "c": _shape(c)}
    return Found(got, _shapes(column.exact()))


@row("module", "forward under `FakeTensorMode`: shapes")
def forward_of_fakes(column: Column) -> Found:
    def shapes(lstm_of: Column) -> Results:
        with FakeTensorMode():
            y, (h, c) = lstm_of.new()(torch.empty(T, B, I))
        return {"y": _shape(y), "h": _shape(h), "c": _shape(c)}

    shapes(Column(TORCH_NN))  # imports, for every child, what PyTorch needs for it
    # A kernel that takes a fake's address for memory ends its process.
    return Found(in_child(lambda: shapes(column)), _shapes(column.exact()))


@row("module", "`.to(torch.float64)`")
def to_float64(column: Column) -> Found:
    lstm = column.new().to(torch.float64)
    return Found(everything(lstm), everything(column.exact()), closeness.LAYER["float64"])


@row("module", "`.to(torch.bfloat16)`")
def to_bfloat16(column: Column) -> Found:
    lstm = column.new().to(torch.bfloat16)
    exact = column.exact()
    exact.load_state_dict(lstm.state_dict())
    # The numbers that are left of the inputs in bfloat16.
    x = numbers(T, B, I).bfloat16().float()
    return Found(everything(lstm, x=x), everything(exact, x=x), closeness.LAYER["bfloat16"])


@row("input", "unbatched")
def unbatched(column: Column) -> Found:
    x = numbers(T, I)
    return Found(everything(column.new(), x=x), everything(column.exact(), x=x))


@row("input", "`batch_first=True`")
def batch_first(column: Column) -> Found:
    lstm = column.new(batch_first=True)

    def call(x: Tensor, states: tuple[Tensor, Tensor]) -> Any:
        y, last = lstm(x.transpose(0, 1), states)
        return y.transpose(0, 1), last

    return Found(everything(lstm, call), everything(column.exact()))


@row("input", "`PackedSequence`, unsorted")
def packed(column: Column) -> Found:
    def run(lstm: torch.nn.LSTM, in_pieces: bool) -> Results:
        x = like(lstm, numbers(T, B, I))
        if in_pieces:
            parts = [lstm(x[:length, b]) for b, length in enumerate((2, 3))]
            y = torch.cat([torch.stack([parts[0][0][t], parts[1][0][t]]) for t in range(2)])
            y = torch.cat([y, parts[1][0][2:]])
            h, c = (torch.stack([p[1][i] for p in parts], 1) for i in range(2))
            # Packed, the longest comes first.
            y = y[[1, 0, 3, 2, 4]]
        else:
            sequences = pack_padded_sequence(x, torch.tensor([2, 3]), enforce_sorted=False)
            packed_y, (h, c) = lstm(sequences)
            y = packed_y.data
        return graded({"y": y, "h": h, "c": c}, {"x": x, **dict(lstm.named_parameters())})

    return Found(run(column.new(), False), run(column.exact(), True))


@row("input", "`proj_size`")
def projected(column: Column) -> Found:
    settings = {"proj_size": 2}
    return Found(everything(column.new(**settings)), everything(column.exact(**settings)))


@row("input", "two layers, bidirectional, `dropout`")
def deep_with_dropout(column: Column) -> Found:
    settings = {"num_layers": 2, "bidirectional": True, "dropout": 0.4}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        got = everything(column.new(**settings))
        torch.manual_seed(5)
        # In float64 other numbers would be drawn: the float32 module, to torch.nn's own bound.
        want = everything(Column(TORCH_NN).new(**settings))
    return Found(got, want)


@row("tool", "`parametrizations.weight_norm`")
def weight_norm(column: Column) -> Found:
    name = "weight_hh_l0"
    lstm = parametrizations.weight_norm(column.new(), name)
    got = _renamed(everything(lstm), {f"d_parametrizations.{name}.original": "d_original"})
    exact = column.exact()
    v = exact.weight_hh_l0.detach().requires_grad_()
    g = v.detach().norm(dim=1, keepdim=True).requires_grad_()
    want = everything(exact)
    w = g * v / v.norm(dim=1, keepdim=True)
    d_g, d_v = torch.autograd.grad(w, (g, v), want.pop(f"d_{name}"))
    return Found(got, want | {"d_original0": d_g, "d_original1": d_v})


@row("tool", "`prune.l1_unstructured`")
def pruned(column: Column) -> Found:
    lstm = prune.l1_unstructured(column.new(), "weight_hh_l0", amount=0.5)
    got = everything(lstm)
    exact, mask = column.exact(), lstm.weight_hh_l0_mask.double()
    with torch.no_grad():
        exact.weight_hh_l0.mul_(mask)
    want = everything(exact)
    return Found(got, want | {"d_weight_hh_l0_orig": want.pop("d_weight_hh_l0") * mask})


@row("tool", "forward and backward hooks")
def hooks(column: Column) -> Found:
    lstm, seen = column.new(), {}
    lstm.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    lstm.register_forward_hook(lambda module, args, out: seen.update(y=out[0].detach()))
    lstm.register_full_backward_hook(
        lambda module, d_in, d_out: seen.update(d_in=d_in[0], d_out=d_out[0])
    )
    lstm.weight_hh_l0.register_hook(lambda d: seen.update(d_w=d))
    lstm.bias_ih_l0.register_post_accumulate_grad_hook(lambda p: seen.update(d_b=p.grad))
    x = like(lstm, numbers(T, B, I))
    weighed([lstm(x)[0]]).backward()
    exact = column.exact()
    x = like(exact, numbers(T, B, I) * 2)
    y = exact(x)[0]
    y.retain_grad()
    weighed([y]).backward()
    d_w, d_b = exact.weight_hh_l0.grad, exact.bias_ih_l0.grad
    return Found(seen, {"y": y, "d_in": x.grad, "d_out": y.grad, "d_w": d_w, "d_b": d_b})


@row("tool", "`quantize_dynamic`")
def quantized(column: Column) -> Found:
    model = torch.nn.Sequential(column.new())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = torch.ao.quantization.quantize_dynamic(model, dtype=torch.qint8)
    if not isinstance(small[0], torch.ao.nn.quantized.dynamic.LSTM):
        raise TypeError("the layer was left as it is, in float32")
    y, (h, c) = small(numbers(T, B, I))
    want, (want_h, want_c) = column.exact()(numbers(T, B, I).double())
    return Found({"y": y, "h": h, "c": c}, {"y": want, "h": want_h, "c": want_c}, QUANTIZED)


@row("processes", "`DataParallel`")
def data_parallel(column: Column) -> Found:
    lstm = column.new()
    got = everything(torch.nn.DataParallel(lstm))
    return Found(got, everything(column.exact()))


@row("processes", "`DistributedDataParallel`, gloo, one process")
def distributed(column: Column) -> Found:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        got = everything(torch.nn.parallel.DistributedDataParallel(column.new()))
    finally:
        torch.distributed.destroy_process_group()
    return Found(got, everything(column.exact()))


@row("processes", "`fork` after a forward and backward")
def forked(column: Column) -> Found:
    lstm = column.new()
    everything(lstm)
    return Found(in_child(lambda: everything(lstm)), everything(column.exact()))


@row("training", "optimizer step over all tensors, `Adam(foreach=True)`")
def foreach_step(column: Column) -> Found:
    def step(lstm: torch.nn.LSTM) -> Results:
        optimizer = torch.optim.Adam(lstm.parameters(), lr=0.1, eps=1e-2, foreach=True)
        for _ in range(2):
            everything(lstm)
            optimizer.step()
        return dict(lstm.state_dict())

    return Found(step(column.new()), step(column.exact()))


@row("training", "`AveragedModel`")
def averaged(column: Column) -> Found:
    lstm = column.new()
    average = torch.optim.swa_utils.AveragedModel(torch.nn.Sequential(lstm))
    average.update_parameters(torch.nn.Sequential(lstm))
    average.update_parameters(torch.nn.Sequential(column.new(seed=7)))
    exact, other = column.exact(), column.exact(seed=7)
    with torch.no_grad():
        for p, q in zip(exact.parameters(), other.parameters(), strict=True):
            p.add_(q).div_(2)

    def first(model: Any) -> Any:
        return lambda x: model(x)[0]

    return Found(of_model(average, call=first(average)), of_model(exact, call=first(exact)))


def _shape(tensor: Tensor) -> Tensor:
    return torch.tensor([int(size) for size in tensor.shape])


def _shapes(exact: torch.nn.LSTM) -> Results:
    y, (h, c) = exact(numbers(T, B, I).double())
    return {"y": _shape(y), "h": _shape(h), "c": _shape(c)}


def _renamed(results: Results, prefixes: dict[str, str]) -> Results:
    for old, new in prefixes.items():
        results = {name.replace(old, new): t for name, t in results.items()}
    return results


def in_child(function: Callable[[], Results]) -> Results:
    """What a function returns in a child of `fork`; its error, or its end, is raised here."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(function, sender), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that the parent has threads
        child.start()
    sender.close()
    try:
        if not receiver.poll(PATIENCE_S):
            raise TimeoutError("the child hangs")
        answer = receiver.recv()
    except EOFError:
        child.join()
        raise ChildProcessError(f"the process ended by {_end_of(child)}") from None
    finally:
        child.kill()
        child.join()
    if isinstance(answer, Exception):
        raise answer
    return {name: torch.from_numpy(array) for name, array in answer.items()}


def _end_of(child: Any) -> str:
    code = child.exitcode
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _answer(function: Callable[[], Results], sender: Any) -> None:
    faulthandler.disable()  # pytest's: a child that dies is told in a line
    try:
        sender.send({name: t.detach().numpy() for name, t in function().items()})
    except Exception as error:  # noqa: BLE001 - the parent raises it
        sender.send(error)
