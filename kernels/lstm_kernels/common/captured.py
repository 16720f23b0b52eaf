"""What CUDA graphs of layers need: a stream of the device for capturing."""

from functools import cache

import torch


@cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream on which graphs of a device are captured.

    `torch.cuda.graph` makes one stream at its first call, and so would capture every other device's
    graphs on the first device.
    """
    return torch.cuda.Stream(device)
