"""Fields held against their types: what fits is built, what does not is named."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from lstm_harness.model.typed import Stored, Unfit, built, known


@dataclass(frozen=True)
class Part(Stored):
    name: str
    sizes: tuple[int, ...] = ()
    share: float | None = None


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    by_name: Mapping[str, float | None]
    anything: Any = None


def whole(**part):
    return {"parts": [{"name": "a"} | part], "by_name": {"x": 1, "y": None}}


def test_what_fits_is_built():
    found = built(whole(sizes=[1, 2], share=1, later="left out"), Whole, "it")
    assert found == Whole((Part("a", (1, 2), 1.0),), {"x": 1.0, "y": None})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (3, "it is 3; expected an object"),
        ({"parts": []}, "it has no field 'by_name'"),
        ({"parts": [], "by_name": {}, "more": 1}, "it has unknown field 'more'"),
        (whole(name=5), r"it.parts\[0\].name is 5; expected str"),
        (whole(sizes=[1, True]), r"it.parts\[0\].sizes\[1\] is True; expected int"),
        (whole(sizes=[2**63]), "expected int of 64 bits"),
        (whole(sizes={}), "expected a list"),
        (whole(share=math.inf), "is inf; expected"),
        (whole(share="1"), "is '1'; expected float or NoneType"),
        ({"parts": [], "by_name": {"x": []}}, r"it.by_name.x is \[\]; expected float or NoneType"),
    ],
)
def test_what_does_not_is_named_with_its_place(value, says):
    with pytest.raises(Unfit, match=says):
        built(value, Whole, "it")


def test_texts_lose_their_control_characters_and_names_too():
    assert built("a\x1b[31m\tb\n\x9b", str, "it") == "a\ufffd[31m\tb\n\ufffd"
    assert built({"\x07": 1.0}, Mapping[str, float], "it") == {"\ufffd": 1.0}


def test_of_some_fields_those_that_are_there_are_read():
    assert known({"name": "a", "unknown": 1}, Part) == {"name": "a"}
    with pytest.raises(Unfit, match=r"part.sizes is 'b'; expected a list"):
        known({"sizes": "b"}, Part, "part")
