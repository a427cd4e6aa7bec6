"""Walking a folder gives each file once, in one order, from any place on, whatever its size."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.folder_walk import FoundFile, walk

NAMES = st.sampled_from(["a", "a.b", "ab", "b", "B", "z.wav", "ä", ".hidden", "a b"])
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=3).map(tuple), min_size=1, max_size=25, unique=True)


def files_below(folder: Path, after: tuple[str, ...] = (), names_at_once: int = 100) -> list[tuple[str, ...]]:
    steps = list(walk(folder, after=after, names_at_once=names_at_once))
    assert all(isinstance(step, FoundFile) for step in steps)
    return [step.path.relative_to(folder).parts for step in steps]


def build(folder: Path, paths: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Make what can be made of these paths (a file cannot be a folder too); return the ones to be found, in order."""
    made = []
    for parts in paths:
        try:
            folder.joinpath(*parts).parent.mkdir(parents=True, exist_ok=True)
            folder.joinpath(*parts).touch(exist_ok=False)
        except OSError:
            continue
        made.append(parts)
    return sorted(parts for parts in made if not any(part.startswith(".") for part in parts))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=PATHS, names_at_once=st.integers(1, 4))
def test_every_file_is_found_once_in_order_and_from_any_place_on(
    tmp_path_factory: pytest.TempPathFactory, paths: list[tuple[str, ...]], names_at_once: int
) -> None:
    folder = tmp_path_factory.mktemp("walk")
    expected = build(folder, paths)
    assert files_below(folder, names_at_once=names_at_once) == expected
    for position, parts in enumerate(expected):
        assert files_below(folder, after=parts, names_at_once=names_at_once) == expected[position + 1 :]


def test_the_walk_goes_on_behind_a_file_or_folder_that_has_gone(tmp_path: Path) -> None:
    build(tmp_path, [("a", "1"), ("b", "1"), ("b", "2"), ("c",)])
    (tmp_path / "b" / "1").unlink()
    assert files_below(tmp_path, after=("b", "1")) == [("b", "2"), ("c",)]
    (tmp_path / "b" / "2").unlink()
    (tmp_path / "b").rmdir()
    assert files_below(tmp_path, after=("b", "1")) == [("c",)]


def test_links_to_files_are_told_apart_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    build(tmp_path, [("a", "1")])
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to(tmp_path / "a" / "1")
    (tmp_path / "d").symlink_to(tmp_path / "nowhere")
    (tmp_path / "e").symlink_to(tmp_path / "e")
    os.mkfifo(tmp_path / "f")
    (tmp_path / "g").symlink_to(tmp_path / "f")
    steps = [step for step in walk(tmp_path) if isinstance(step, FoundFile)]
    assert [(step.path.name, step.is_link) for step in steps] == [("1", False), ("c", True), ("d", True), ("e", True)]
