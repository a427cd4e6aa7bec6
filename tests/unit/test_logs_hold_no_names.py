"""No log line of the product repeats the message of an error, which may name a recording, a gallery or a speaker."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
HARMLESS = {"LeaseLost", "UnsafeFork"}
"""Errors whose messages hold numbers only."""


def told(tree: ast.AST, unnamed: frozenset[str] = frozenset()) -> list[int]:
    """Lines that log an exception itself, or what `one_line` or `str` makes of it."""
    found = []
    for node in ast.iter_child_nodes(tree):
        caught = unnamed
        if isinstance(node, ast.ExceptHandler) and node.name is not None:
            kind = node.type.id if isinstance(node.type, ast.Name) else ""
            caught = unnamed - {node.name} if kind in HARMLESS else unnamed | {node.name}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "logger":
                found += [node.lineno for argument in node.args if _repeats(argument, caught)]
        found += told(node, caught)
    return found


def _repeats(argument: ast.expr, caught: frozenset[str]) -> bool:
    if (
        isinstance(argument, ast.Call)
        and isinstance(argument.func, ast.Name)
        and argument.func.id in ("one_line", "str")
    ):
        return any(_repeats(inner, caught) for inner in argument.args)
    return isinstance(argument, ast.Name) and argument.id in caught


@pytest.mark.parametrize("package", ["indexer", "search", "worker", "api"])
def test_no_log_line_repeats_an_errors_message(package: str) -> None:
    # What making the page installs there is not ours.
    files = sorted(
        file for file in (REPOSITORY / package).rglob("*.py") if not {"node_modules", ".node"} & {*file.parts}
    )
    assert files
    wrong = {
        str(file.relative_to(REPOSITORY)): lines
        for file in files
        if (lines := told(ast.parse(file.read_text(encoding="utf-8"))))
    }
    assert wrong == {}


def test_what_is_looked_for_is_found() -> None:
    source = (
        "try:\n    pass\nexcept OSError as error:\n    logger.warning('x: %s', one_line(error))\n    logger.info(error)"
    )
    assert told(ast.parse(source)) == [4, 5]
    assert told(ast.parse(source.replace("OSError", "LeaseLost"))) == []
