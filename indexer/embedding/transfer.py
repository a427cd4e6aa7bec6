"""Small tensors from this process's memory to a device, without waiting for what the device is doing."""

from functools import cache

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU; to a GPU from pinned memory and beside its work, which the next operation waits for."""
    if device.type != "cuda":
        return tensor.to(device)
    copies, work = _copies(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(copies):
        copied = tensor.pin_memory().to(device, non_blocking=True)
    work.wait_stream(copies)
    copied.record_stream(work)  # or its memory would be used again while the work still reads it
    return copied


@cache
def _copies(device: torch.device) -> "torch.cuda.Stream":
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
