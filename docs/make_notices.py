"""Rewrite the table of packages in THIRD_PARTY_NOTICES.md from the lock and the metadata of what is installed.

python docs/make_notices.py

Packages that this machine does not install (the lock is for every platform) keep the row they have.
"""

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
TARGET = REPOSITORY / "THIRD_PARTY_NOTICES.md"
LOCK = REPOSITORY / "requirements" / "milvus.lock"  # all of run.lock, and the extra `milvus`

_BEGIN, _END = "<!-- packages: begin -->\n", "<!-- packages: end -->\n"
_ROW = re.compile(r"^\| (\S+) \| (.+) \|$", re.MULTILINE)

# What the metadata says in words of its own, or does not say.
_SPELLED = {
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "Dual License": "Apache-2.0 OR BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "NVIDIA Proprietary Software": "NVIDIA, proprietary",
    "LicenseRef-NVIDIA-Proprietary": "NVIDIA, proprietary",
    "New BSD": "BSD-3-Clause",
}
_UNSTATED = {"cuda-toolkit": "NVIDIA, proprietary (its metadata names none)"}


def locked() -> list[str]:
    """Names of the packages in the lock, in its order."""
    names = re.findall(r"^([A-Za-z0-9._-]+)==", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    return list(dict.fromkeys(names))


def license_of(name: str) -> str | None:
    """Return the license that a package's metadata states; None where it is not installed or states none."""
    try:
        fields = metadata(name)
    except PackageNotFoundError:
        return None
    classifiers = [
        text.rpartition(" :: ")[2] for text in fields.get_all("Classifier") or [] if text.startswith("License")
    ]
    candidates = [*(fields.get_all("License-Expression") or []), *(fields.get_all("License") or []), *classifiers]
    # The first line only: some put the whole text into the field.
    stated = next((first for text in candidates if (first := text.split("\n")[0].strip())), "")
    return _SPELLED.get(stated, stated) or _UNSTATED.get(name)


def render(page: str) -> str:
    """Return the page with its table written anew."""
    before, rest = page.split(_BEGIN)
    old, after = rest.split(_END)
    known = dict(_ROW.findall(old))
    rows = [f"| {name} | {license_of(name) or known.get(name, 'unknown: look it up')} |\n" for name in locked()]
    return f"{before}{_BEGIN}| Package | License |\n|---|---|\n{''.join(rows)}{_END}{after}"


if __name__ == "__main__":
    TARGET.write_text(render(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
