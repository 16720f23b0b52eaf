"""Whatever a file holds, no command ends in a traceback, hangs, or leaves its documented codes.

`python tests/perf/spoil_files.py` goes on where this ends.
"""

import random

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from spoilt_files import KINDS, Spoiling

FEW, MANY = 15, 200


@pytest.fixture(params=KINDS)
def spoiling(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoilt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)
        yield Spoiling(KINDS[request.param], folder)


@pytest.mark.parametrize("times", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_spoilt_file_is_told_in_a_line(spoiling, times):
    @settings(
        max_examples=max(3, times // 10) if spoiling.kind.seconds else times,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategies.integers(0, 2**32 - 1))
    def spoilt(seed: int) -> None:
        spoiling.once(random.Random(seed))

    spoilt()
