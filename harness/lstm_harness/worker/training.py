"""One curve: a task trained step by step, its points, and a checkpoint to continue from."""

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lstm_harness.model.training import OPENING, Curve, End, Point, TrainingSpec
from lstm_harness.model.typed import built
from lstm_harness.worker.workloads.layers import Layers
from lstm_harness.worker.workloads.task import Choices, Task, make


class Training:
    """A task, its optimizer, and its progress.

    Args:
        checkpoint: the file that is replaced after every point, in one step; if there is one of
            this curve, training continues there, and gives the points that it would have given.
    Raises:
        MissingData: a package that holds the data is missing.
    """

    def __init__(self, spec: TrainingSpec, curve: Curve, device: str, checkpoint: Path) -> None:
        began = time.perf_counter()
        layers = Layers(curve.cell, curve.backend, device, spec.bptt, spec.packed)
        choices = Choices(spec.remember, Path(spec.text) if spec.text else None)
        torch.manual_seed(curve.seed)
        self.task: Task = make(spec.workload, layers, choices, curve.seed)
        self._optimizer = torch.optim.Adam(self.task.model.parameters(), lr=self.task.learning_rate)
        self.parameters = sum(each.numel() for each in self.task.model.parameters())
        self._curve, self._device, self._checkpoint = curve, device, checkpoint
        self._step, self._seconds, self._predictions = 0, 0.0, 0
        self.last: Point | None = None
        self._warm_up()
        if checkpoint.exists():
            self._restore()
        self._setup_seconds = time.perf_counter() - began

    def _warm_up(self) -> None:
        """Run a first step, so that it compiles, and undo its effects."""
        remembered = self.task.remembered
        self.task.model.train()
        devices = [torch.cuda.current_device()] if self._device == "cuda" else []
        with torch.random.fork_rng(devices):
            self.task.loss(self.task.batch(0)).mean.backward()
        self.task.model.zero_grad()
        self.task.remembered = remembered

    def go_on(self, steps: int) -> Point:
        """Train for this many steps, and evaluate held-out data."""
        self.task.model.train()
        losses: list[float] = []
        shares: list[tuple[int, int]] = []
        began, first = time.perf_counter(), self._step
        for step in range(first, first + steps):
            mean, predictions, right = self.task.loss(self.task.batch(step))
            self._optimizer.zero_grad()
            mean.backward()
            torch.nn.utils.clip_grad_norm_(self.task.model.parameters(), self.task.clip)
            self._optimizer.step()
            losses.append(float(mean.detach()))
            self._predictions += predictions
            if right is not None:
                shares.append((right, predictions))
        self._step += steps
        self._seconds += time.perf_counter() - began
        self.last = Point(
            step=self._step,
            seconds=self._seconds,
            predictions=self._predictions,
            loss=_finite(sum(losses) / len(losses)),
            right_share=_share(shares),
            held_out=self._held_out(last=False),
            opening=tuple(map(_finite, losses[:OPENING])) if first == 0 else (),
        )
        self._keep()
        return self.last

    def end(self) -> tuple[dict[str, float | None], End]:
        """The results at the end: metrics of held-out data, the baseline and examples."""
        told = self._held_out(last=True)
        with torch.no_grad():
            examples = tuple(self.task.examples())
            baseline = _finite(self.task.baseline())
        return told, End("ok", "", self._setup_seconds, baseline, self.parameters, examples)

    def _held_out(self, last: bool) -> dict[str, float | None]:
        self.task.model.eval()
        with torch.no_grad():
            return {name: _finite(each) for name, each in self.task.held_out(last).items()}

    def _keep(self) -> None:
        assert self.last is not None
        fresh = self._checkpoint.with_suffix(".new")
        torch.save(
            {
                "model": self.task.model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "remembered": self.task.remembered,
                "random": torch.get_rng_state(),
                "random_on_gpu": torch.cuda.get_rng_state() if self._device == "cuda" else None,
                "curve": asdict(self._curve),
                "point": asdict(self.last),
            },
            fresh,
        )
        fresh.replace(self._checkpoint)

    def _restore(self) -> None:
        kept: dict[str, Any] = torch.load(self._checkpoint, weights_only=True)
        if kept["curve"] != asdict(self._curve):
            return  # the checkpoint of the curve before, whose harness was killed
        self.task.model.load_state_dict(kept["model"])
        self._optimizer.load_state_dict(kept["optimizer"])
        self.task.remembered = kept["remembered"]
        torch.set_rng_state(kept["random"])
        if self._device == "cuda":
            torch.cuda.set_rng_state(kept["random_on_gpu"])
        self.last = point = built(kept["point"], Point, "the checkpoint")
        self._step, self._seconds, self._predictions = point.step, point.seconds, point.predictions


def _finite(value: float | Tensor) -> float | None:
    return float(value) if math.isfinite(value) else None


def _share(shares: list[tuple[int, int]]) -> float | None:
    right, predictions = map(sum, zip(*shares, strict=True)) if shares else (0, 0)
    return right / predictions if predictions else None
