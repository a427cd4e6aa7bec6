"""Fail when a lock holds a URL, lacks a hash, disagrees with its twin, or misses a dependency of pyproject.toml."""

import re
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?P<marker> ;[^\\]*)?", re.MULTILINE)


def normalized(name: str) -> str:
    """Name of a distribution as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(path: Path) -> dict[str, set[str]]:
    """Locked versions by distribution (several where Python versions differ)."""
    pins: dict[str, set[str]] = {}
    for match in PIN.finditer(path.read_text()):
        pins.setdefault(normalized(match["name"]), set()).add(match["version"])
    return pins


def problems() -> list[str]:
    """Everything that is wrong, in words."""
    found = []
    names = ("run.lock", "milvus.lock", "dev.lock", "bench.lock", "browser.lock", "bootstrap.lock", "node.lock")
    locks = {name: REPOSITORY / "requirements" / name for name in names}
    for name, path in locks.items():
        text = path.read_text()
        if "://" in text:
            found.append(f"{name} holds a URL")
        if re.search(r"^faiss-cpu==\S+ \\", text, re.MULTILINE):
            found.append(
                f"{name} installs faiss-cpu everywhere, over the `faiss` of faiss-gpu: see `tool.uv` in pyproject"
            )
        entries = [entry for entry in re.split(r"\n(?=\S)", text.strip()) if not entry.startswith("#")]
        found += [f"{name}: {entry.split()[0]} has no hash" for entry in entries if "--hash=sha256:" not in entry]
    run, milvus, dev, bench = (read_pins(locks[f"{name}.lock"]) for name in ("run", "milvus", "dev", "bench"))
    found += [
        f"{name} is {fewer[name]} in {smaller}, {more.get(name)} in {larger}"
        for smaller, fewer, larger, more in (
            ("run.lock", run, "milvus.lock", milvus),
            ("milvus.lock", milvus, "dev.lock", dev),
            ("milvus.lock", milvus, "bench.lock", bench),
        )
        for name in fewer
        if fewer[name] != more.get(name)
    ]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for lock, pins, wanted in (
        ("run.lock", run, project["dependencies"]),
        ("milvus.lock", milvus, project["optional-dependencies"]["milvus"]),
        ("dev.lock", dev, project["optional-dependencies"]["dev"]),
        ("bench.lock", bench, project["optional-dependencies"]["bench"]),
    ):
        missing = {normalized(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in wanted} - {"voxdex", *pins}
        found += [f"{lock} misses {name}: run `make lock`" for name in sorted(missing)]
    if run["torch"] != run["torchaudio"]:
        found.append(f"torch {run['torch']} and torchaudio {run['torchaudio']} are not one release")
    return found


if __name__ == "__main__":
    found = problems()
    for line in found:
        sys.stderr.write(line + "\n")
    sys.exit(bool(found))
