"""A part of two sides on this device: what is refused before anything is measured."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from made_up_fleet import manifest

from lstm_harness.model.errors import UserError
from lstm_harness.model.part import Part
from lstm_harness.race import pairs
from lstm_harness.race.runs import Watch


@pytest.mark.parametrize(
    ("side", "fact", "value", "said"),
    [
        (0, "kernels_digest", "ffff", "the base side was .* another the kernels' sources"),
        (1, "kernels_digest", "ffff", "the new side was .* another the kernels' sources"),
        (1, "device", "cuda", "the new side was started with another device"),
        (0, "torch", "1.0", "the base side was started with another torch"),
    ],
)
def test_another_class_or_other_checkouts_are_refused(
    tmp_path, monkeypatch, side, fact, value, said
):
    manifests = [
        manifest(name) | {"revision": {"name": name, "commit": None}} for name in pairs.NAMES
    ]
    surveys = []
    for place, whole in enumerate(manifests):
        found = {"kernels_digest": whole["kernels_digest"], "device": "cpu"}
        environment = dict(whole["environment"])
        if place == side:
            (found if fact in found else environment)[fact] = value
        surveys.append(SimpleNamespace(environment=environment, **found))

    @contextmanager
    def surveyed(*_):
        yield [], surveys

    monkeypatch.setattr(pairs, "_surveyed", surveyed)
    folders = [tmp_path / name for name in pairs.NAMES]
    with pytest.raises(UserError, match=said):
        pairs.measure_part(manifests, Part((0,), (0,)), folders, folders, tmp_path, Watch())
    assert not any(folder.exists() for folder in folders)
