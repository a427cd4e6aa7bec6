"""Every command that a page shows runs: on a record of its own, with an encoder that needs no weights."""

import argparse
import contextlib
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer.main

from api import dependencies
from api.cli import main
from indexer.embedding.registry import EncoderSpec
from indexer.encoders_in_use import EncodersInUse
from indexer.settings import Settings, load_settings
from search.calibration import default_calibrations
from tests.api_kit import RegisteredSpectrum, SpectrumServices, Weights, serving, wav
from tests.docs_kit import FENCE, PAGES, REPOSITORY, Shell, in_place, run_command, run_program, shell_blocks
from tests.fakes import ReversedSpectrumEncoder

COMMANDS = typer.main.get_command(main.app)

SHOWN = [page for page in PAGES if shell_blocks(page)]

ONLY_READ = {
    "serve": "runs until Ctrl-C: tests/e2e/test_cli_serve.py",
    "worker": "runs until Ctrl-C: tests/e2e/test_cli_service.py",
    "beat": "runs until Ctrl-C: tests/e2e/test_cli_service.py",
    "demo": "takes a minute: tests/e2e/test_cli_main_job.py",
    "bench": "takes minutes: tests/e2e/test_bench_index.py",
    "evaluate": "takes labeled recordings of many people: tests/e2e/test_cli_evaluate.py",
    "calibrate": "takes labeled recordings of many people: tests/integration/test_calibrating.py",
    "encoder pull": "takes a network: tests/integration/test_downloads_registry.py",
    "index migrate --to milvus": "takes a Milvus: tests/integration/test_index_migration.py",
    "galleries change people": "takes 200 people: tests/integration/test_normalized_galleries.py",
    "--install-completion": "writes to the user's own files: tests/unit/test_cli_completion.py",
}
"""Commands that are read (tests/unit/test_docs_links.py) and not run here, with who runs them."""

STATUS = {
    "doctor": {1},  # there are no weights in this world
    "ingest": {0, 1},  # 1: a file of the archive is broken
    "jobs watch": {0, 1},
    "jobs retry": {0, 4, 5},  # nothing of it failed, nor that file
    "jobs cancel": {5},  # it has ended
    "unknown": {0, 4},  # pages name voices that these recordings do not have
    "speakers delete": {0, 2, 4},  # 2: it asks, and nobody is there; 4: erased by the command before
    "recordings delete": {0, 2, 4},
    "reembed --drop-old": {0, 2},
    "galleries create calls": {5},  # it is there
}
"""How else than well a command may end here."""

PUBLISHED = {
    "campplus-zh-en" if "kaldi" in one.encoder_ids[0] else "speechbrain-ecapa-voxceleb": one.encoder_ids[0]
    for one in default_calibrations()
    if len(one.encoder_ids) == 1
}
"""Ids under which there are calibrations that come along."""

FILE = re.compile(r"(?<![\w/.*-])((?:[\w-]+/)*[\w-]+\.(?:wav|flac|mp3|m4a|csv|nemo|rttm|dump))\b")
FOLDER = re.compile(r"(?<![\w/.-])([\w-]+)/(?:\*\.wav|(?=\s))")


@cache
def recording(seed: int) -> bytes:
    """Write a recording, once."""
    return wav(seed=seed)


def in_this_process(patch: pytest.MonkeyPatch) -> None:
    """Have commands run without weights, and their options read once and not for each call."""
    patch.setattr(dependencies, "Services", PagesServices)
    patch.setattr(main, "app", COMMANDS)


class PagesEncoders(EncodersInUse):
    """Runs an encoder without weights under every name, and another one as CAM++ and for models of one's own."""

    def _load(self, name: str, *_: str | None) -> tuple[Any, EncoderSpec]:
        spec = self._registry.get(name)
        encoder: Any = ReversedSpectrumEncoder() if name in ("campplus-zh-en", "mine") else RegisteredSpectrum()
        encoder.checkpoint = Weights()
        # The ids of the published ones, so that they have the calibrations that come along.
        encoder.id = PUBLISHED.get(name, encoder.id)
        return encoder, spec


class PagesServices(SpectrumServices):
    """Services for the commands of pages."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.__dict__["encoders"] = PagesEncoders(self.registry, settings.embedding)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with people and recordings in four galleries, and so many jobs."""
    folder = tmp_path_factory.mktemp("record")
    home, people = folder / ".voxdex", folder / "people"
    for seed, name in enumerate(("Ann Lee", "Ada Lovelace", "Bo Chen")):
        for take in range(4):
            file = people / name / f"{take}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(recording(40 + 10 * seed + take))
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch)
        for gallery in ("default", "calls", "staff", "archive"):
            words = ["ingest", str(people), "-g", gallery, "--speaker-from", "parent", "--home", str(home)]
            assert run_command(words)[0] == 0
    return home


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_the_commands_of_a_page_run(page: Path, record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    monkeypatch.delenv("VOXDEX_HOME")
    script = "\n".join(shell_blocks(page))
    world = World(tmp_path, record, script)
    shell = Shell(tmp_path, world.programs)
    environment = {"HOME": str(tmp_path), "VOXDEX_CACHE": str(tmp_path / "cache")}
    if "$VOXDEX_URL" in script:
        environment["VOXDEX_URL"] = world.address
    with in_place(tmp_path, environment), world.service():
        complaints = shell.run(script, environment)
    calls = [(" ".join(call), status, output.decode()) for call, status, output in shell.done]
    failed = [f"{call}: {status}: {output[-300:]}" for call, status, output in calls if status not in allowed(call)]
    assert not failed, "\n".join(failed)
    assert complaints == ""
    assert shell.done


@pytest.mark.parametrize("prefix", [*ONLY_READ, *STATUS])
def test_every_exception_is_of_a_command_that_a_page_shows(prefix: str) -> None:
    shown = "\n".join(block for page in SHOWN for block in shell_blocks(page))
    assert re.search(rf"voxdex {re.escape(prefix)}(?![\w-])", shown)


def test_every_command_is_in_a_block_that_is_run() -> None:
    others = [
        (page.name, line)
        for page in PAGES
        for language, block in FENCE.findall(page.read_text(encoding="utf-8"))
        if language != "sh"
        for line in block.splitlines()
        if re.match(r"(\$ )?(\w+=\S+ )*(\.venv/bin/)?(voxdex|make|curl|docker) [a-z-]", line)
    ]
    assert others == []


def allowed(call: str) -> set[int]:
    return next((statuses for prefix, statuses in STATUS.items() if call.startswith(f"voxdex {prefix}")), {0})


class World:
    """What the pages take for granted: files, folders, a service."""

    address = "http://127.0.0.1:8080"

    def __init__(self, folder: Path, record: Path, script: str) -> None:
        self.folder, self.record = folder, record
        self.client: httpx.Client | None = None
        self.asks = self.address in script or "$VOXDEX_URL" in script
        self.programs = {
            "voxdex": self.voxdex,
            "python": self.python,
            "curl": self.curl,
            "docker": self.docker,
            "make": self.make,
            "pip": lambda words, _: (0 if (REPOSITORY / words[-1]).is_dir() else 1, b""),
        }
        shutil.copytree(record, folder / ".voxdex")
        shutil.copy(REPOSITORY / ".env.example", folder)
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "activate").touch()
        for place, name in enumerate(dict.fromkeys(FILE.findall(script))):
            self.make_file(folder / name, seed=place)
        for name in FOLDER.findall(script):
            self.make_archive(folder / name)

    @contextlib.contextmanager
    def service(self) -> Iterator[None]:
        """Run the service on the same record, where the page asks one."""
        if not self.asks:
            yield
            return
        settings = load_settings(database={}, jobs={"sweep_s": 0.5})
        with serving(settings, PagesServices(settings)) as client:
            self.client = client
            yield

    def voxdex(self, words: list[str], environment: dict[str, str]) -> tuple[int, bytes]:
        """Run the command line, but for what is only read."""
        if any(" ".join(words).startswith(prefix) for prefix in ONLY_READ) or "s3://" in " ".join(words):
            return 0, b""
        given = {name: self.placed(value) for name, value in environment.items() if name != "VOXDEX_API_KEY"}
        if words[0] == "key":  # A service that knows a key wants one from then on.
            given["VOXDEX_HOME"] = str(shutil.copytree(self.record, self.folder / "keys", dirs_exist_ok=True))
        with in_place(self.folder, given):
            return run_command([self.placed(word) for word in words])

    def python(self, words: list[str], environment: dict[str, str]) -> tuple[int, bytes]:
        """Run a program."""
        with in_place(self.folder, environment):
            return run_program([words[0], *map(self.placed, words[1:])])

    def curl(self, words: list[str], _: dict[str, str]) -> tuple[int, bytes]:
        """Send a request as curl would."""
        if "example.org" in " ".join(words):  # would be called back
            return 0, b""
        parser = argparse.ArgumentParser(exit_on_error=False)
        for flag in ("-s", "-N"):
            parser.add_argument(flag, action="store_true")
        parser.add_argument("-X", default="GET")
        parser.add_argument("-d", default=None)
        for flag in ("-H", "-F"):
            parser.add_argument(flag, action="append", default=[])
        parser.add_argument("url")
        asked = parser.parse_args(words)
        assert self.client is not None
        files = {field: Path(self.folder, name) for field, name in (one.split("=@") for one in asked.F)}
        body = None if asked.d is None else re.sub(r'"(/[^"]+)"', lambda path: f'"{self.placed(path[1])}"', asked.d)
        answer = self.client.request(
            asked.X,
            self.placed(asked.url),
            content=body,
            files={field: path.read_bytes() for field, path in files.items()} or None,
            headers=dict(header.split(": ", 1) for header in asked.H if not header.endswith(" ")),
        )
        known = answer.status_code == 409 and "already" in answer.text  # galleries of the record
        return (0 if answer.is_success or known else 22), answer.content

    def docker(self, words: list[str], _: dict[str, str]) -> tuple[int, bytes]:
        """Look whether the services of Compose that are named are there."""
        services = re.findall(r"^  ([a-z-]+):$", (REPOSITORY / "docker-compose.yml").read_text(), re.MULTILINE)
        if words[:1] != ["compose"] or words[1] not in ("exec", "run", "stop"):
            return 0, b""
        named = [word for word in words[2:] if not word.startswith("-")]
        named = named if words[1] == "stop" else named[:1]
        return (0 if set(named) <= set(services) else 1), b""

    def make(self, words: list[str], _: dict[str, str]) -> tuple[int, bytes]:
        """Look whether the target is there."""
        return (0 if f"\n{words[0]}:" in (REPOSITORY / "Makefile").read_text() else 2), b""

    def placed(self, word: str) -> str:
        """Move an absolute path into this world, where it is made; and the service's address to where it is."""
        if self.client is not None:
            word = word.replace(self.address, str(self.client.base_url).rstrip("/"))
        if not re.match(r"/\w", word) or Path(word).exists() or word.startswith(str(self.folder)):
            return word
        path = self.folder / "root" / word[1:]
        if path.suffix:
            self.make_file(path, seed=90)
        else:
            self.make_archive(path)
        return str(path)

    def make_file(self, path: Path, *, seed: int) -> None:
        """Write a file such as its name promises."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            self.make_archive(path.parent / "listed")
            path.write_text("uri,speaker\nlisted/ann/1.wav,Ann Lee\nlisted/bo/2.wav,Bo Chen\n")
        elif path.suffix == ".nemo":
            shutil.copy(REPOSITORY / "tests" / "parity" / "tiny.nemo", path)
        elif path.suffix == ".rttm":
            path.write_text("SPEAKER meeting 1 0.00 1.50 <NA> <NA> ann <NA> <NA>\n")
        elif "sqlite" not in path.name:
            path.write_bytes(wav(seed=seed))

    def make_archive(self, folder: Path) -> None:
        """Make a folder of people with recordings, one of them broken."""
        for seed, name in enumerate(("ann/1.wav", "bo/2.wav", "ann_7.wav")):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(recording(70 + seed))
        (folder / "bo" / "torn.wav").touch()
