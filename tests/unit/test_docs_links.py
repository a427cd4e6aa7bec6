"""What the documentation points at exists: files, headings, commands with their options, make targets."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from api.cli.main import app
from tests.docs_kit import FENCE, PAGES, REPOSITORY

LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)>\s]+)>?[^)]*\)")
INLINE = re.compile(r"(?<!`)`((?:voxdex|make) [^`\n]+)`(?!`)")
SHELL_BLOCKS = {"", "sh", "bash", "shell", "console"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert broken_links(page.read_text(encoding="utf-8"), page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_command_exists_with_the_options_it_is_shown_with(page: Path) -> None:
    assert wrong_commands(page.read_text(encoding="utf-8")) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A Title, and `code`\n")
    text = "[a](there.md) [b](there.md#a-title-and-code) [c](gone.md) [d](there.md#none) [e](https://example.org/x)\n"
    assert broken_links(text, tmp_path / "page.md") == ["gone.md", "there.md#none"]


@pytest.mark.parametrize(
    "line",
    [
        "voxdex identfy a.wav",
        "voxdex identify a.wav --treshold 0.5",
        "voxdex identify a.wav --threshold high",
        "voxdex verify a.wav",
        "$ .venv/bin/voxdex speakers lst",
        "VOXDEX_OFFLINE=1 voxdex compare a.wav",
        "make demoo",
    ],
)
def test_a_command_that_does_not_work_is_found(line: str) -> None:
    assert len(wrong_commands(f"```sh\n{line}\n```\n")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "voxdex identify a.wav b.wav --threshold 0.5 --json | jq .results",
        "$ .venv/bin/voxdex speakers list -g calls > speakers.txt",
        "make install && .venv/bin/voxdex --help  # the first time",
        "voxdex: not-found: no gallery 'nope': see `voxdex galleries list`",
        "voxdex --version",
        "ls voxdex identfy",
    ],
)
def test_a_command_that_works_and_other_text_pass(line: str) -> None:
    assert wrong_commands(f"```sh\n{line}\n```\n") == []


def test_output_and_other_languages_are_not_read_as_commands() -> None:
    assert wrong_commands("```text\nvoxdex identfy\n```\n```console\n$ voxdex --version\nvoxdex 0.1.0\n```\n") == []


def test_a_command_in_running_text_must_exist_too() -> None:
    assert len(wrong_commands("Run `voxdex index repair` or `make nothing`; `voxdex index rebuild` is fine.\n")) == 2


def broken_links(text: str, page: Path) -> list[str]:
    """Relative links of a page whose file or heading is not there."""
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    broken = []
    for target in LINK.findall(prose):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, heading = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or (heading and heading not in headings(path.read_text(encoding="utf-8"))):
            broken.append(target)
    return broken


def headings(text: str) -> set[str]:
    """Anchors of a page's headings, as the usual renderers make them."""
    titles = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def wrong_commands(text: str) -> list[str]:
    """Calls of voxdex and make that would fail before they did anything."""
    found = [problem for words in shown_calls(text) if (problem := problem_of(words))]
    found += [problem for code in INLINE.findall(FENCE.sub("", text)) if (problem := unknown_names(code.split()))]
    return found


def shown_calls(text: str) -> Iterator[list[str]]:
    """Words of every call in the shell blocks, from `voxdex` or `make` on."""
    for language, block in FENCE.findall(text):
        if language not in SHELL_BLOCKS:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ ") or language != "console":
                yield from calls_in(line.removeprefix("$ "))


def calls_in(line: str) -> Iterator[list[str]]:
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        tokens = list(lexer)
    except ValueError:  # an apostrophe in output: no command of ours
        return
    call: list[str] = []
    for token in [*tokens, ";"]:
        if set(token) <= set("|&;<>()"):
            while call and re.fullmatch(r"[A-Z_]+=.*", call[0]):
                call = call[1:]
            if call and Path(call[0]).name in ("voxdex", "make"):
                yield [Path(call[0]).name, *call[1:]]
            # What follows a redirection is a file, not a command.
            call = ["file"] if set(token) & set("<>") else []
        else:
            call.append(token)


def problem_of(words: list[str]) -> str | None:
    """Why a call would fail on its words alone, or None."""
    if (problem := unknown_names(words)) or words[0] == "make":
        return problem
    name, command, rest = resolve(words[1:])
    if not rest or hasattr(command, "commands") or {"-h", "--help"} & set(rest):
        return None if rest or hasattr(command, "commands") or not needs_arguments(command) else f"{words}: no input"
    try:
        command.make_context(name, list(rest))
    except Exception as error:  # the classes are private to typer
        return f"{' '.join(words)}: {getattr(error, 'message', None) or error!r}"
    return None


def unknown_names(words: list[str]) -> str | None:
    """The first command, option or target in a call that does not exist."""
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        return next((f"no make target {target}" for target in targets if target not in make_targets()), None)
    _, command, rest = resolve(words[1:])
    if hasattr(command, "commands") and rest and not rest[0].startswith(("-", "[")) and rest[0] != "...":
        return f"{' '.join(words)}: no command {rest[0]!r}"
    known = {"-h", "--help", *(name for option in command.params for name in (*option.opts, *option.secondary_opts))}
    if "--" in rest:
        rest = rest[: rest.index("--")]
    used = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return next((f"{' '.join(words)}: no option {name}" for name in used if name not in known), None)


def needs_arguments(command: Any) -> bool:
    return any(parameter.required for parameter in command.params)


@cache
def command_tree() -> Any:
    return typer.main.get_command(app)


def resolve(words: list[str]) -> tuple[str, Any, list[str]]:
    """The command that words lead to, and what is left of them."""
    name, command = "voxdex", command_tree()
    while words and words[0] in getattr(command, "commands", {}):
        name, words = words[0], words[1:]
        command = command.commands[name]
    return name, command, words


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
