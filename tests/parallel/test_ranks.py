"""Which device a rank takes."""

import pytest
import torch

from megalith.errors import ResourceError
from megalith.parallel.mesh import own_device


def test_more_ranks_on_a_machine_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks that shared a GPU would meet NCCL's error of a duplicate device, after all had started."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device() == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ResourceError, match="2 GPUs, and 3 processes"):
        own_device()
