"""Write docs/cli-reference.md from the commands themselves, so that it cannot say anything else.

python docs/make_cli_reference.py
"""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer.main

from api.cli.main import app

TARGET = Path(__file__).with_name("cli-reference.md")

_HEADER = """\
# Command reference

Generated from the commands by `make docs-reference`; do not edit. [cli.md](cli.md) explains them with examples.

Every command takes `--help`, or `-h`.
"""

_VALUES = {Path: "PATH", int: "INTEGER", float: "NUMBER", str: "TEXT"}


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, with its words after `voxdex`, in the order `--help` lists them."""
    yield from _below((), typer.main.get_command(app))


def _below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield words, command
        return
    if command.invoke_without_command and words:
        yield words, command
    for name, child in children.items():
        yield from _below((*words, name), child)


def render() -> str:
    """Return the whole page."""
    parts = [_HEADER]
    for words, command in commands():
        parts.append(_render_command(words, command))
    return "\n".join(parts)


def _render_command(words: tuple[str, ...], command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    takes = get_type_hints(command.callback)
    usage = " ".join(["voxdex", *words, *map(_argument, arguments), "[OPTIONS]"])
    lines = [f"## voxdex {' '.join(words)}", "", f"`{usage}`", "", _flow(command.help), ""]
    if arguments:
        lines += ["| Argument | Meaning |", "|---|---|"]
        lines += [f"| `{_argument(argument)}` | {_cell(argument)} |" for argument in arguments]
        lines.append("")
    lines += ["| Option | Meaning |", "|---|---|"]
    lines += [
        f"| `{_option(option, takes[option.name])}` | {_cell(option, takes[option.name])} |" for option in options
    ]
    return "\n".join(lines) + "\n"


def _argument(parameter: Any) -> str:
    name = parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any, annotation: Any) -> str:
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    value = _value(annotation)
    return f"{names} {value}" if value else names


def _value(annotation: Any) -> str:
    """Say what an option takes; nothing for a flag."""
    if _choices(annotation):
        return "NAME"
    kind = _kind(annotation)
    return "" if kind is bool else _VALUES[kind]


def _choices(annotation: Any) -> list[str]:
    """Say what an option takes, where it is one of some names."""
    kind = _kind(annotation)
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [choice.value for choice in kind] if issubclass(kind, Enum) else []


def _kind(annotation: Any) -> Any:
    """Type of one value: of an option that may be absent, or be given several times, that of each."""
    while not isinstance(annotation, type) and get_origin(annotation) is not Literal:
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def _cell(parameter: Any, annotation: Any = str) -> str:
    text = _flow(parameter.help).replace("|", "\\|")
    if choices := _choices(annotation):
        text += f" One of: {', '.join(choices)}."
    if parameter.required and parameter.param_type_name == "option":
        return f"{text} Required."
    if parameter.show_default and parameter.default not in (None, False):
        return f"{text} Default: `{getattr(parameter.default, 'value', parameter.default)}`."
    return text


def _flow(text: str | None) -> str:
    """Join the lines of each paragraph, as Markdown does; a docstring's breaks mean nothing."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
