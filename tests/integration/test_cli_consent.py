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
