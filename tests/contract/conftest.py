from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.engines import ENGINES, Engine, Lab


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn."""
    chosen: Engine = request.param
    return chosen


@pytest.fixture
def lab(engine: Engine, tmp_path: Path) -> Iterator[Lab]:
    """Where a test gets its stores and indexes from."""
    made = Lab(engine, tmp_path)
    yield made
    made.close()
