"""The picture and the table of the floors are those that the linter holds."""

import re
import tomllib
import xml.etree.ElementTree as ElementTree
from itertools import chain

from places import ROOT

PAGE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "architecture.svg"
WORKER = "worker"


def floors() -> list[list[str]]:
    """The packages of each floor, from the top, by the contract; the worker is on none of them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (c["layers"] for c in contracts["contracts"] if c["type"] == "layers")
    return [line.split(" | ") for line in layers if line != WORKER]


def test_the_table_lists_every_package_from_the_top():
    listed = re.findall(r"^\| (?:\w+)? ?\| `(\w+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    assert listed == [*chain.from_iterable(floors()), WORKER]


def test_the_picture_has_the_floors_in_their_order():
    texts = ElementTree.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text")
    names = {each.text: int(each.get("y")) for each in texts if each.get("class") == "name"}
    heights = [{names[package] for package in floor} for floor in floors()]
    assert [len(height) for height in heights] == [1] * len(heights)
    assert sorted(heights, key=min) == heights
    assert min(heights[0]) < names[WORKER] < min(heights[-1])


def test_the_picture_has_every_backend():
    registry = (ROOT / "kernels" / "lstm_kernels" / "registry.py").read_text()
    registered = set(re.findall(r'Backend\(\n\s+"(\w+)"', registry))
    texts = ElementTree.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text")
    assert {each.text for each in texts if each.get("class") == "small"} == registered
