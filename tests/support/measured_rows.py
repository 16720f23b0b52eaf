"""Files of results as `auto` reads them, made by hand: rows, and where they are put."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lstm_kernels import Problem, measured, preference
from lstm_kernels.measured import DeviceClass, Measured, MeasuredRun, Row


def run_of(**fields: Any) -> MeasuredRun:
    """A run whose results hold in this process, but for what is said."""
    known = {"id": "a-run", "start": "2026-01-01T00:00:00+00:00", "torch": torch.__version__}
    return MeasuredRun(**{**known, "kernels": measured.kernels_digest(), **fields})


def problem(**fields: Any) -> Problem:
    """T 8, B 4, I 16 and H 16 of an LSTM, but for what is said."""
    sizes = {"seq_len": 8, "batch": 4, "input_size": 16, "hidden_size": 16}
    return Problem(**{"cell": "lstm", **sizes, **fields})


def row(
    order: Sequence[str] = ("hoisted", "aten"),
    use: str = "training",
    *,
    tied: Sequence[str] = (),
    run: MeasuredRun | None = None,
    slower: Sequence[str] = (),
    **fields: Any,
) -> Row:
    """A row in which each of `order` takes a microsecond more than the one before it.

    Args:
        tied: the fastest alone where none is named.
        slower: who was measured beside them.
        fields: of the problem.
    """
    medians = {name: 1000.0 * place for place, name in enumerate((*order, *slower), 1)}
    names = tuple(tied) or (order[0],)
    return Row(problem(**fields), use, run or run_of(), medians, names, tuple(order))


def here() -> DeviceClass:
    """The class of this CPU, with the threads that torch computes with now."""
    return measured.device_class("cpu", torch.get_num_threads())


def put(
    folder: Path | None, *rows: Row, device: DeviceClass | None = None, name: str | None = None
) -> Path:
    """Write a file of these rows, to be read from now on."""
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or here().file_name())
    path.write_text(measured.text_of(Measured(device or here(), rows)))
    preference.forget()
    return path
