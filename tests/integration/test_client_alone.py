"""The client by itself: built and installed without anything else of this repository, and without the network."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

CLIENT = REPOSITORY / "api" / "client"
SOURCES = CLIENT / "src" / "voxdex_client"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client as a wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # A copy, since building leaves traces beside the sources.
    for path in [CLIENT / "pyproject.toml", CLIENT / "README.md", *SOURCES.rglob("*.py"), SOURCES / "py.typed"]:
        copy = source / path.relative_to(CLIENT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", folder, source], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_it_installs_into_an_empty_environment_with_what_it_declares_and_nothing_more(
    wheel: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    [packages] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", packages, wheel], check=True, capture_output=True)
    for name in _needed({"httpx", "pydantic"}):
        _link(name, packages)
    code = (
        "import sys, voxdex_client; "
        "client = voxdex_client.Client('http://127.0.0.1:1', 'vdx_a_b'); client.close(); "
        "heavy = {'torch', 'numpy', 'sqlalchemy', 'fastapi', 'indexer', 'api', 'search', 'worker'}; "
        "print(voxdex_client.__file__, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([python, "-I", "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(packages / "voxdex_client" / "__init__.py"), "[]"]
    assert (packages / "voxdex_client" / "py.typed").is_file()
    missing = subprocess.run([python, "-I", "-c", "import torch"], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" in missing.stderr


def test_it_imports_the_standard_library_and_its_two_dependencies_only() -> None:
    imported = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            imported |= {name.split(".")[0] for name in names}
    assert imported - sys.stdlib_module_names == {"httpx", "pydantic", "voxdex_client"}
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {re.split(r"[<>=]", requirement)[0] for requirement in project["dependencies"]} == {"httpx", "pydantic"}


def _needed(names: set[str]) -> set[str]:
    """Distributions that these need, themselves included, as they are installed here."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        for requirement in importlib.metadata.requires(name) or []:
            wanted, _, marker = requirement.partition(";")
            if "extra ==" not in marker and _applies(marker):
                waiting.add(re.split(r"[\s<>=!~(\[]", wanted.strip())[0])
        waiting -= found
    return found


def _applies(marker: str) -> bool:
    from packaging.markers import Marker

    return not marker.strip() or Marker(marker.strip()).evaluate()


def _link(name: str, packages: Path) -> None:
    """Put an installed distribution into another environment."""
    for file in importlib.metadata.files(name) or []:
        top = file.parts[0]
        source = Path(str(file.locate())).parents[len(file.parts) - 1] / top
        if top != ".." and not (packages / top).exists():
            (packages / top).symlink_to(source)
