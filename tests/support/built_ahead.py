"""What `compile_ahead.py` builds for one shape, and whether it builds and loads it, as JSON.

Triton works as on a GPU, but for a driver that says "sm_90" and writes down what it is asked for.
"""

import json
import sys
from types import SimpleNamespace

import compile_ahead
from as_the_jit import Driver
from triton.runtime.driver import driver

SHAPE = {"batch": "128,256", "seq-len": "1024", "dtype": "float16", "pass": "inference,train"}
asked = []


class Watched(Driver):
    """That loads nothing."""

    utils = SimpleNamespace(
        load_binary=lambda name, *_: asked.append(f"loads {name}") or (0, 0, 0, 0, 1024),
        get_device_properties=lambda _: {"max_shared_mem": 232448},
    )

    def launcher_cls(self, source, metadata):
        """What would launch a kernel."""
        asked.append(f"builds what launches {metadata.name}")
        return asked


if __name__ == "__main__":
    driver.set_active(Watched())
    problems = compile_ahead.what_to_compile(["flashrnn"], SHAPE)
    launches = [
        launch.name
        for problem in problems
        for backend in compile_ahead.BACKENDS
        for launch in compile_ahead.launches_of(backend, problem, "sm_90")
    ]
    kernels = compile_ahead.kernels_of(problems, "sm_90")
    pointwise = [each for each in kernels.values() if each.backend == "pointwise"]
    answers = {
        "launches": len(launches),
        "kernels": len(kernels),
        "failed": compile_ahead.build(pointwise[0], "sm_90"),
        "asked": asked,
    }
    json.dump(answers, sys.stdout)
