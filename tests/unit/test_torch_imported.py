"""While torch is imported nobody looks for garbage; afterwards whoever did does again."""

import gc
import importlib

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
