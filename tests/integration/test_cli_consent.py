"""`voxdex enroll` in a gallery that requires consent."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from api import dependencies
from api.cli.main import app
from indexer.settings import load_settings
from tests.api_kit import SpectrumServices, wav


@pytest.fixture
def strict_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record with a gallery `strict`, for commands whose encoder needs no weights."""
    monkeypatch.setattr(dependencies, "Services", SpectrumServices)
    services = SpectrumServices(load_settings(home=tmp_path, database={}))
    services.create_gallery("strict", None, consent_required=True)
    services.close()
    return tmp_path


def test_a_reference_to_the_consent_enrolls_whoever_needs_one(strict_home: Path) -> None:
    recording = strict_home / "ann.wav"
    recording.write_bytes(wav(3))
    enroll = ["enroll", "Ann", str(recording), "-g", "strict", "--home", str(strict_home)]
    refused = CliRunner().invoke(app, enroll)
    assert (refused.exit_code, "consent" in refused.output) == (1, True)
    given = CliRunner().invoke(app, [*enroll, "--consent-reference", "contract 7"])
    assert given.exit_code == 0, given.output
    shown = CliRunner().invoke(app, ["speakers", "show", "Ann", "-g", "strict", "--home", str(strict_home), "--json"])
    assert shown.exit_code == 0, shown.output
    assert "contract 7" in shown.output


def test_erasing_shows_a_terminal_that_it_goes_on_and_a_program_nothing(
    strict_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # Standard error counts as a terminal.
    for name in ("Ann", "Ben"):
        recording = strict_home / f"{name}.wav"
        recording.write_bytes(wav(3, seed=len(name) + ord(name[0])))
        enroll = ["enroll", name, str(recording), "-g", "strict", "--consent-reference", "contract 7"]
        assert CliRunner().invoke(app, [*enroll, "--home", str(strict_home), "--json"]).exit_code == 0
    where = ["-g", "strict", "--home", str(strict_home)]
    for command in (["speakers", "delete", "Ann", "--yes"], ["index", "rebuild"], ["index", "check"]):
        shown = CliRunner().invoke(app, [*command, *where])
        assert (shown.exit_code, "0:00:0" in shown.stderr) == (0, True), shown.output
    silent = CliRunner().invoke(app, ["speakers", "delete", "Ben", "--yes", "--json", *where])
    assert (silent.exit_code, silent.stderr) == (0, "")
