"""Imports torch for those who run networks: not collecting garbage meanwhile, and without what compilers need of it.

To be imported before torch, by what usually is the first to need it. Nothing of what importing makes is garbage: that
saves a seventh of the time. What operators do to tensors without numbers, and what they are made of, is registered in
Python for `torch.compile`, `torch.export` and the like: it is a fourth of the time, and left until one of them is asked
for. Before that, some operators refuse a tensor on the device "meta".
"""

import gc
import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_KERNELS = "torch._meta_registrations"

_NEED_KERNELS = frozenset({"torch._decomp", "torch._dynamo", "torch._inductor", "torch._refs", "torch._prims"})
"""Of the parts of torch that work with tensors without numbers, those that are not loaded with torch itself."""


class _AsLoaded(Loader):
    """Hands over a module that what was left has just loaded."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


class _BeforeCompilers(MetaPathFinder):
    """Registers what was left, as soon as somebody imports a part of torch that needs it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _NEED_KERNELS:
            return None
        with suppress(ValueError):  # another thread was first
            sys.meta_path.remove(self)
        importlib.import_module(_KERNELS)
        loaded = sys.modules.get(fullname)
        if loaded is None:
            return PathFinder.find_spec(fullname, path, target)
        # Of a module that has been loaded meanwhile, Python takes the module's own specification.
        loaded.__spec__ = spec = ModuleSpec(fullname, _AsLoaded(loaded))
        return spec


def _import_torch() -> None:
    stand_in = None if "torch" in sys.modules else sys.modules.setdefault(_KERNELS, ModuleType(_KERNELS))
    collecting = gc.isenabled()
    gc.disable()
    try:
        import torch
    finally:
        if collecting:
            gc.enable()
        if stand_in is not None:
            sys.modules.pop(_KERNELS, None)
    if stand_in is not None and torch.__dict__.get("_meta_registrations") is stand_in:
        del torch.__dict__["_meta_registrations"]
        sys.meta_path.insert(0, _BeforeCompilers())


_import_torch()
