"""Calling PyTorch's own functions, and leaving its flags as they were."""

import pytest
import torch

from lstm_kernels.common.torch_native import cudnn_enabled


@pytest.mark.parametrize("enabled", [True, False])
def test_only_the_one_flag_changes_and_comes_back(enabled: bool) -> None:
    def flags() -> tuple[bool, ...]:
        cudnn = torch.backends.cudnn
        return cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32

    def fail_inside() -> None:
        with cudnn_enabled(enabled):
            assert torch.backends.cudnn.enabled is enabled
            assert flags() == before
            raise KeyError

    before, was = flags(), torch.backends.cudnn.enabled
    with pytest.raises(KeyError):
        fail_inside()
    assert torch.backends.cudnn.enabled is was
