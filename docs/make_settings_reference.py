"""Write docs/settings.md from the settings themselves, so that it cannot say anything else.

python docs/make_settings_reference.py
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from indexer.settings import Settings

TARGET = Path(__file__).with_name("settings.md")

_HEADER = """\
# Settings

Generated from `indexer/settings.py` by `make docs-reference`; do not edit.

A setting is an environment variable. Options of a command (`--home`, `--channels`, `--encoder`, `--threshold`) come
before it. A value out of range, or an unknown name inside a group (`VOXDEX_AUDIO__...`), is refused with exit status
2 and the name of the variable. An unknown name outside a group (`VOXDEX_SOMETHING`) is ignored.

```sh
VOXDEX_HOME=/data/voxdex VOXDEX_AUDIO__MAX_DURATION_S=3600 voxdex ingest /data/archive
```

| Variable | Default | Meaning |
|---|---|---|
"""


def variables() -> Iterator[tuple[str, str, str]]:
    """Yield every variable with its default and its meaning, both as Markdown."""
    yield from _below(Settings, str(Settings.model_config["env_prefix"]))


def _below(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    delimiter = str(Settings.model_config["env_nested_delimiter"])
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            yield from _below(group, variable + delimiter)
        else:
            yield variable, _default(field), _meaning(field)


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "unset"
    if isinstance(value, Path):
        return f"`~/{value.relative_to(Path.home()).as_posix()}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _meaning(field: FieldInfo) -> str:
    if field.description is None:
        raise SystemExit(f"a setting with the annotation {field.annotation} has no description: add one")
    limits = [_limit(constraint) for constraint in field.metadata]
    text = field.description.replace("|", "\\|")
    return f"{text} ({', '.join(filter(None, limits))})" if any(limits) else text


def _limit(constraint: Any) -> str:
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    return " and ".join(
        f"{word} {getattr(constraint, name):g}" for name, word in words.items() if hasattr(constraint, name)
    )


def render() -> str:
    """Return the whole page."""
    return _HEADER + "".join(f"| `{name}` | {default} | {meaning} |\n" for name, default, meaning in variables())


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
