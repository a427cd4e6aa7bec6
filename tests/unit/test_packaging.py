"""An installed voxdex holds what the source tree holds."""

import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
ROOTS = ("indexer", "search", "worker", "api", "migrations")


def test_every_package_of_the_tree_is_listed_for_installation() -> None:
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    listed = document["tool"]["setuptools"]["packages"]
    there = {
        ".".join(path.parent.relative_to(REPOSITORY).parts)
        for root in ROOTS
        for path in (REPOSITORY / root).rglob("__init__.py")
        # A distribution of its own, and the page, whose build brings its own tools.
        if path.relative_to(REPOSITORY).parts[1] not in {"client", "page"}
    }
    assert len(listed) == len(set(listed))
    assert set(listed) == there
