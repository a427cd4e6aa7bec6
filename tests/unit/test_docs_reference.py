"""The generated pages of docs/ say what the commands and the settings say."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(DOCS / name))


@pytest.mark.parametrize("name", ["make_cli_reference.py", "make_settings_reference.py", "make_api_routes.py"])
def test_a_generated_page_is_as_its_script_writes_it(name: str) -> None:
    names = script(name)
    page = names["TARGET"].read_text(encoding="utf-8")
    assert page == names["render"](), f"{names['TARGET'].name} is stale: run `make docs-reference`"


def test_every_command_and_its_options_are_in_the_reference() -> None:
    names = script("make_cli_reference.py")
    page = names["render"]()
    commands = list(names["commands"]())
    assert len(commands) > 20
    for words, command in commands:
        section = page.split(f"## voxdex {' '.join(words)}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            shown = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name.upper()
            assert f"`{shown}" in section or f"`[{shown}" in section, (words, shown)
            assert parameter.help, f"{words}: {parameter.name} has no help"


def test_every_variable_of_the_reference_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    from indexer.settings import Settings

    variables = list(script("make_settings_reference.py")["variables"]())
    values = {"str": "sqlite:///x", "int": "3", "float": "0.5", "bool": "true", "Path": "elsewhere"}
    settings = Settings()
    for name, default, meaning in variables:
        assert meaning
        path = name.removeprefix("VOXDEX_").lower().split("__")
        before: Any = settings
        for part in path:
            before = getattr(before, part)
        for value in [
            *values.values(),
            "WARNING",
            "INFO",
            "text",
            "workers",
            "milvus",
            "AUTOINDEX",
            "cpu",
            "http://milvus:19530",
            "float16",
            "silero",
            "0.7",
            "one",
            "4",
            "60",
            "300",
            "268435456",
            "exact",
            '["/archive"]',
        ]:
            monkeypatch.setenv(name, value)
            try:
                after: Any = Settings()
            except ValueError:
                continue
            for part in path:
                after = getattr(after, part)
            if after != before:
                break
        else:
            raise AssertionError(f"{name} (default {default}) changes nothing")
        monkeypatch.delenv(name)


def test_every_locked_package_is_in_the_notices_with_a_license() -> None:
    names = script("make_notices.py")
    page = names["TARGET"].read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\S+) \| (.+) \|$", page, re.MULTILINE))
    locked = set(names["locked"]())
    assert len(locked) > 50
    assert locked - set(rows) == set(), "run `python docs/make_notices.py`"
    assert [name for name in locked if "unknown" in rows[name]] == []
    # What is installed here says what the table says. Packages locked in two versions may state it differently.
    lock = names["LOCK"].read_text(encoding="utf-8")
    once = [name for name in locked if len(re.findall(rf"^{re.escape(name)}==", lock, re.MULTILINE)) == 1]
    stated = {name: license for name in once if (license := names["license_of"](name))}
    assert len(stated) > 30
    assert {name: rows[name] for name in stated} == stated
