"""The command answers at once, and loads nothing heavy for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

VOXDEX = Path(sys.executable).with_name("voxdex")


def test_help_answers_in_half_a_second() -> None:
    times = []
    for _ in range(5):
        before = _children_s()
        done = subprocess.run([VOXDEX, "--help"], capture_output=True, text=True, check=True)
        times.append(_children_s() - before)
    assert "identify" in done.stdout
    # Processor time, and the best of five: what the command costs, not what else the machine was doing.
    assert min(times) < 0.5, times


def _children_s() -> float:
    used = os.times()
    return used.children_user + used.children_system


@pytest.mark.parametrize(
    "module", ["api.cli.main", "search.identification", "search.verification", "search.occurrences"]
)
def test_no_heavy_library_is_loaded_for_it(module: str) -> None:
    code = (
        f"import sys; import {module}; heavy = ('torch', 'torchaudio', 'faiss', 'sqlalchemy', 'av', 'soundfile'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_whoever_embeds_without_a_gallery_loads_no_database_and_nothing_of_other_kinds_of_files_and_weights() -> None:
    code = (
        "import sys, api.comparison, indexer.encoders_in_use, indexer.embedding.encoder; "
        "print([name for name in ('sqlalchemy', 'av', 'yaml', 'torch._meta_registrations') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [
        *("ingest", "enroll", "identify", "verify", "compare", "search", "embed", "demo", "bench", "doctor"),
        *(
            "speakers list",
            "speakers show",
            "speakers delete",
            "recordings list",
            "recordings show",
            "recordings delete",
        ),
        *("galleries list", "galleries show", "galleries delete", "index info", "index check", "index rebuild"),
        "index migrate",
        *("encoder list", "encoder pull", "encoder show", "encoder add", "db upgrade"),
        *("jobs list", "jobs show", "jobs watch", "jobs items", "jobs cancel", "jobs retry"),
    ],
)
def test_every_command_takes_home_and_json(command: str) -> None:
    from typer.testing import CliRunner

    from api.cli.main import app

    done = CliRunner().invoke(app, [*command.split(), "--help"])
    assert done.exit_code == 0
    assert "--home" in done.output
    assert "--json" in done.output


def test_a_usage_error_names_the_option(tmp_path: Path) -> None:
    done = subprocess.run([VOXDEX, "identify", "--tpo-k", "3"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--tpo-k" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin", "HOME": str(tmp_path), "VOXDEX_AUDIO__UTTERANCE_S": "soon"}
    done = subprocess.run([VOXDEX, "galleries", "list"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert "VOXDEX_AUDIO__UTTERANCE_S" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
