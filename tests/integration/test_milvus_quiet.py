"""What a Milvus Lite logs while all is well."""

import logging

import numpy as np
import pytest

from indexer.index.base import FeedMark
from indexer.index.milvus_store import MilvusStore
from indexer.types import EncoderId, GalleryId
from tests.milvus_kit import milvus_settings
from tests.vectors import unit_vectors


def test_nothing_is_logged_while_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    store = MilvusStore(milvus_settings(), GalleryId(1), EncoderId("encoder"))
    index = store.create()
    index.add(np.arange(1, 51), unit_vectors(50))
    index.begin_save(FeedMark(1, "x")).write()
    assert len(index.search(unit_vectors(1), 5)[0]) == 5
    assert len(list(index.contents(deep=True))) == 1
    store.clear()
    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] == []
