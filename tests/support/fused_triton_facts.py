"""What the Triton backend compiles, as JSON: keys of its kernels over shapes, PTX, orders."""

import json
import sys
from collections.abc import Iterable
from itertools import groupby

from lstm_kernels import Problem
from lstm_kernels.backends import fused_triton
from lstm_kernels.gpu import machine_code
from lstm_kernels.gpu.launching import Launch
from lstm_kernels.gpu.machine_code import ARCHITECTURES, KernelImage

ARCH = "sm_90"

# What programs meet by: how a line of PTX begins, and what the machine code makes of it.
KINDS = {
    "poll": ("ld.acquire.gpu", ("LDG", "LD")),
    "barrier": ("bar.sync", ("BAR",)),
    "gather": ("ld.global.cg", ("LDG", "LDGSTS")),
    "store": ("st.global", ("STG", "ST")),
    "arrival": ("atom", ("RED", "REDG", "ATOM", "ATOMG")),
}
# This one is made of the arrival, too.
FENCE = "MEMBAR"


def launches(**fields: int) -> dict[str, Launch]:
    """The launch of each pass, for training, by name."""
    sizes = {"seq_len": 32, "batch": 16, "input_size": 512, "hidden_size": 512} | fields
    made = fused_triton.launches_for(Problem("lstm", dtype="float16", **sizes), ARCH)
    return {
        launch.kernel.__name__: launch
        for launch in made
        if launch.arguments["gates_ptr"] is not None and not launch.arguments.get("PREACTIVATED")
    }


def orders(image: KernelImage) -> dict[str, list[str]]:
    """What a kernel meets other programs by, in order: in PTX, and in the step loop's code."""
    lines = image.ptx.splitlines()
    code = machine_code._parse(machine_code._run_tool("nvdisasm", ("-c", "-gp"), image))
    loop = machine_code._find_loops(code, image.kernel).largest
    step = [code[place] for place in sorted(loop)]
    return {
        "ptx": told(map(kind_of, lines)),
        "sass": told(
            "fence" if each.family == FENCE else kind_of(lines[each.ptx_line - 1], each.family)
            for each in step
            if each.ptx_line
        ),
    }


def kind_of(line: str, family: str | None = None) -> str | None:
    """What a line of PTX is to other programs, and an instruction made of it, if anything."""
    text = line.strip()
    if text.startswith("@"):
        _, _, text = text.partition(" ")
    for kind, (start, families) in KINDS.items():
        if text.startswith(start) and family in (None, *families):
            return kind
    return None


def told(kinds: Iterable[str | None]) -> list[str]:
    """Those that there are; of the same ones in a row one."""
    return [kind for kind, _ in groupby(filter(None, kinds))]


def main() -> None:
    """Print it all."""
    shapes = [{}, {"seq_len": 1}, {"seq_len": 7}, {"seq_len": 1000}, {"batch": 1}, {"batch": 13}]
    of_shapes = [launches(**shape) for shape in shapes]
    other = launches(hidden_size=768)
    own = launches(hidden_size=64)
    facts = {
        "keys": {
            name: {
                "same tile": [each[name].key(ARCH) for each in of_shapes],
                "other H": other[name].key(ARCH),
            }
            for name in ("forward", "backward")
        },
        "orders": {
            f"{name} {arch}": orders(launch.compile(arch))
            for name, launch in of_shapes[0].items()
            for arch in ARCHITECTURES
        },
        "ptx": {name: launch.compile(ARCH).ptx for name, launch in of_shapes[0].items()},
        "own ptx": own["forward"].compile(ARCH).ptx,
    }
    json.dump(facts, sys.stdout)


if __name__ == "__main__":
    main()
