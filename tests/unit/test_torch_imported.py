"""While torch is imported nobody looks for garbage, and what compilers need is left; afterwards both are as ever."""

import gc
import importlib
import subprocess
import sys

import pytest

import indexer.torch_imported


@pytest.mark.parametrize("collecting", [True, False])
def test_garbage_is_collected_again_where_it_was_before(collecting: bool) -> None:
    (gc.enable if collecting else gc.disable)()
    try:
        importlib.reload(indexer.torch_imported)
        assert gc.isenabled() == collecting
    finally:
        gc.enable()


LEFT = """
import sys, indexer.torch_imported, torch
assert "torch._meta_registrations" not in sys.modules and not hasattr(torch, "_meta_registrations")
assert torch.nn.Conv1d(4, 5, 3, device="meta").weight.shape == (5, 4, 3)
finders = len(sys.meta_path)
from torch._subclasses.fake_tensor import FakeTensorMode
with FakeTensorMode():
    assert torch.linalg.cholesky(torch.empty(4, 4)).shape == (4, 4)
assert torch._meta_registrations is sys.modules["torch._meta_registrations"]
assert torch.roll(torch.empty(4, 4, device="meta"), 1).shape == (4, 4)
assert len(sys.meta_path) == finders - 1
"""


def test_what_compilers_need_of_torch_is_there_once_it_is_asked_for() -> None:
    subprocess.run([sys.executable, "-c", LEFT], check=True)
