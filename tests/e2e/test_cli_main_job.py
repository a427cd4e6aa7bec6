"""The main job through the command line, on the real weights and real meetings: the product as a user meets it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli_kit import Done, voxdex

pytestmark = [pytest.mark.real_weights, pytest.mark.real_speech]

Run = Callable[..., Done]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("voxdex-home")


@pytest.fixture(scope="module")
def cut(meeting_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One-voice recordings out of the meetings: SPEAKER/NAME.wav, with times from the reference transcript."""
    folder = tmp_path_factory.mktemp("cut")
    stretches = {
        "FEE083/enroll.wav": ("trn06.wav", 0),
        "FEE083/probe.wav": ("trn09.wav", 0),
        "MEO069/enroll.wav": ("trn03.wav", 0),
        "MEO069/probe.wav": ("trn03.wav", 1),
        "MEE009/probe.wav": ("dev00.wav", 0),
    }
    from indexer.audio.rttm import overlap_free_turns, parse_rttm

    turns = [turn for path in sorted(meeting_dir.glob("*.rttm")) for turn in parse_rttm(path)]
    alone = overlap_free_turns(turns, 5.0)
    for target, (recording, half) in stretches.items():
        initials = target.split("/")[0][-3:]
        turn = next(t for t in alone if t.recording == Path(recording).stem and t.speaker.endswith(initials))
        middle = turn.start_s + turn.duration_s / 2
        whole = target.split("/")[0] != "MEO069"
        start_s = turn.start_s if half == 0 else middle
        end_s = turn.end_s if whole or half == 1 else middle
        with soundfile.SoundFile(meeting_dir / recording) as source:
            source.seek(round(start_s * source.samplerate))
            samples = source.read(round((end_s - start_s) * source.samplerate), dtype="float32")
        path = folder / target
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples, 16_000)
    return folder


@pytest.fixture(scope="module")
def run(home: Path, default_weights: Path) -> Run:
    """Run the command on one home folder."""

    def call(*arguments: object, expect: int = 0) -> Done:
        done = voxdex(*arguments, "--home", home)
        assert done.returncode == expect, f"{arguments}: {done}"
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture(scope="module")
def gallery(run: Run, cut: Path, meeting_dir: Path) -> str:
    """Two people enrolled in two ways, and the meetings as the archive."""
    run("ingest", meeting_dir / "trn03.wav", meeting_dir / "dev00.wav", "-g", "meetings")
    run("enroll", "Meo", cut / "MEO069" / "enroll.wav", "-g", "meetings")
    shutil.copytree(cut / "FEE083", cut / "by-folder" / "Fee", dirs_exist_ok=True)
    (cut / "by-folder" / "Fee" / "probe.wav").unlink()
    run("ingest", cut / "by-folder", "--speaker-from", "parent", "-g", "meetings")
    return "meetings"


def test_known_voices_are_identified_and_an_unknown_one_is_nobody(run: Run, gallery: str, cut: Path) -> None:
    probes = [cut / "FEE083" / "probe.wav", cut / "MEO069" / "probe.wav", cut / "MEE009" / "probe.wav"]
    found = run("identify", *probes, "-g", gallery, "--json").answer["results"]
    assert [result["speaker"] for result in found] == ["Fee", "Meo", None]
    assert [result["decision"] for result in found] == ["identified", "identified", "unknown"]
    for result in found:
        scores = [candidate["score"] for candidate in result["candidates"]]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 2
    strict = run("identify", probes[0], "-g", gallery, "--threshold", "0.999", "--top-k", "1", "--json").answer[
        "results"
    ]
    assert (strict[0]["decision"], len(strict[0]["candidates"])) == ("unknown", 1)


def test_a_score_is_the_cosine_of_the_exported_vectors(run: Run, gallery: str, cut: Path, tmp_path: Path) -> None:
    probe, enrolled = cut / "FEE083" / "probe.wav", cut / "FEE083" / "enroll.wav"
    run("embed", probe, enrolled, "-o", tmp_path / "unit.npz")
    run("embed", probe, enrolled, "-o", tmp_path / "again.npz")
    run("embed", probe, enrolled, "-o", tmp_path / "raw.npz", "--raw")
    assert (tmp_path / "unit.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    unit, raw = np.load(tmp_path / "unit.npz"), np.load(tmp_path / "raw.npz")
    assert list(unit) == [str(probe), str(enrolled)]
    for key in unit:
        assert unit[key].shape == (192,)
        assert unit[key].dtype == np.float32
        np.testing.assert_allclose(unit[key], raw[key] / np.linalg.norm(raw[key]), atol=1e-6)
    compared = run("compare", probe, enrolled, "--json").answer["results"][0]
    assert compared["score"] == pytest.approx(float(unit[str(probe)] @ unit[str(enrolled)]), abs=1e-6)
    verified = run("verify", probe, "--speaker", "Fee", "-g", gallery, "--json").answer["results"][0]
    identified = run("identify", probe, "-g", gallery, "--json").answer["results"][0]
    assert verified["score"] == pytest.approx(identified["candidates"][0]["score"], abs=1e-6)


def test_a_claim_is_accepted_or_rejected(run: Run, gallery: str, cut: Path) -> None:
    probe = cut / "MEO069" / "probe.wav"
    assert run("verify", probe, "-s", "Meo", "-g", gallery, "--json").answer["results"][0]["decision"] == "accept"
    assert run("verify", probe, "-s", "Fee", "-g", gallery, "--json").answer["results"][0]["decision"] == "reject"
    assert run("verify", probe, "-s", "Meo", "-g", gallery).stdout.startswith("accept: ")


def test_a_voice_is_found_in_the_archive_with_its_stretches(run: Run, gallery: str, cut: Path) -> None:
    found = run("search", cut / "MEO069" / "probe.wav", "-g", gallery, "--json").answer["results"][0]
    names = {Path(recording["uri"]).name: recording for recording in found["recordings"]}
    assert "trn03.wav" in names
    assert "dev00.wav" not in names
    assert all(0 <= stretch["start_s"] < stretch["end_s"] <= 30.001 for stretch in names["trn03.wav"]["stretches"])


def test_what_is_stored_can_be_listed_shown_and_checked(run: Run, gallery: str) -> None:
    listed = {
        speaker["name"]: speaker for speaker in run("speakers", "list", "-g", gallery, "--json").answer["speakers"]
    }
    assert set(listed) == {"Fee", "Meo"}
    shown = run("speakers", "show", "Fee", "-g", gallery, "--json").answer
    assert len(shown["enrolled"]) == listed["Fee"]["enrollments"]
    recordings = run("recordings", "list", "-g", gallery, "--json").answer["recordings"]
    assert len(recordings) == 4
    first = run("recordings", "show", recordings[0]["id"], "-g", gallery, "--json").answer
    assert first["content_sha256"] == recordings[0]["content_sha256"]
    galleries = run("galleries", "list", "--json").answer["galleries"]
    assert [entry["name"] for entry in galleries] == [gallery]
    assert run("galleries", "show", gallery, "--json").answer["recordings"] == 4
    assert run("index", "check", "-g", gallery, "--json").answer["in_step"] is True
    info = run("index", "info", "-g", gallery, "--json").answer
    assert (
        info["count"] == galleries[0]["embeddings"] == run("index", "rebuild", "-g", gallery, "--json").answer["count"]
    )


def test_the_tables_for_people_say_the_same(run: Run, gallery: str, cut: Path) -> None:
    text = run("identify", cut / "FEE083" / "probe.wav", cut / "MEE009" / "probe.wav", "-g", gallery).stdout
    assert "Fee" in text
    assert "unknown" in text
    assert "identified at " in text
    assert "at most 1 % of unknown voices named" in text
    for command in ("speakers", "recordings", "galleries"):
        arguments = [] if command == "galleries" else ["-g", gallery]
        assert run(command, "list", *arguments).stdout.strip()


def test_one_bad_probe_does_not_cost_the_others_their_answer(run: Run, gallery: str, cut: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    done = run("identify", tmp_path / "broken.wav", cut / "FEE083" / "probe.wav", "-g", gallery, "--json", expect=1)
    document = done.answer
    assert [result["speaker"] for result in document["results"]] == ["Fee"]
    assert [failure["path"] for failure in document["failed"]] == [str(tmp_path / "broken.wav")]


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["identify", "PROBE", "-g", "nowhere"], 4, "not-found"),
        (["verify", "PROBE", "-s", "Nobody", "-g", "meetings"], 4, "not-found"),
        (["verify", "TEXT", "-s", "Fee", "-g", "meetings"], 3, "unsupported-format"),
        (["compare", "PROBE", "MISSING"], 4, "not-found"),
        (["identify", "PROBE", "-g", "meetings", "--threshold", "2"], 2, "invalid-request"),
        (["identify", "PROBE", "-g", "meetings", "--top-k", "0"], 2, "invalid-request"),
        (["identify", "PROBE", "-g", "meetings", "--channels", "middle"], 2, "invalid-request"),
        (["embed", "PROBE", "-o", "OUT", "--encoder", "unheard-of"], 4, "not-found"),
        (["embed", "PROBE", "-o", "OUT", "--front-end", "current"], 2, "invalid-request"),
        (["embed", "PROBE", "-o", "MISSING/x/y.npz"], 2, "invalid-request"),
        (["speakers", "delete", "Fee", "-g", "meetings"], 2, "invalid-request"),
        (["recordings", "show", "999999", "-g", "meetings"], 4, "not-found"),
        (["recordings", "list", "--state", "odd", "-g", "meetings"], 2, "invalid-request"),
        (["ingest", "MISSING"], 4, "not-found"),
        (["ingest", "PROBE", "--speaker-from", ""], 2, "invalid-request"),
        (["enroll", "", "PROBE"], 2, "invalid-request"),
        (["embed", "PROBE", "-o", "PROBE"], 2, "invalid-request"),
        (["embed", "PROBE", "-o", "/dev/null"], 2, "invalid-request"),
        (["identify", "PROBE", "--top-k", "many"], 2, "invalid-request"),
        (["recordings", "show", "99999999999999999999"], 2, "invalid-request"),
        (["identify"], 2, "invalid-request"),
        (["ingest", "PROBE", "--speaker-from", "moon"], 2, "invalid-request"),
    ],
)
def test_an_error_is_one_line_with_its_own_exit_status(
    run: Run, gallery: str, cut: Path, tmp_path: Path, arguments: list[str], status: int, code: str
) -> None:
    (tmp_path / "text.wav").write_text("This is no recording. " * 50)
    places = {
        "PROBE": cut / "FEE083" / "probe.wav",
        "TEXT": tmp_path / "text.wav",
        "MISSING": tmp_path / "missing.wav",
        "OUT": tmp_path / "out.npz",
        "MISSING/x/y.npz": tmp_path / "x" / "y.npz",
    }
    done = run(*[places.get(argument, argument) for argument in arguments], expect=status)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"voxdex: {code}: ")


def test_a_refused_output_leaves_the_recording_alone(run: Run, cut: Path, tmp_path: Path) -> None:
    recording = tmp_path / "own.wav"
    shutil.copy(cut / "MEE009" / "probe.wav", recording)
    before = recording.read_bytes()
    (tmp_path / "link.wav").symlink_to(recording)
    run("embed", recording, "-o", recording, expect=2)
    run("embed", recording, "-o", tmp_path / "link.wav", expect=2)
    assert recording.read_bytes() == before


def test_keys_are_the_paths_as_typed(run: Run, cut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cut)
    typed = ["./MEE009/probe.wav", "MEE009//probe.wav", str(cut / "MEE009" / "probe.wav")]
    document = run("embed", *typed, typed[0], "-o", tmp_path / "v.npz", "--json").answer
    assert document["keys"] == list(np.load(tmp_path / "v.npz")) == typed


def test_a_usage_error_is_a_document_where_json_was_asked_for(run: Run) -> None:
    document = run("identify", "x.wav", "--threshold", "high", "--json", expect=2).answer
    assert document["error"]["code"] == "invalid-request"
    assert "--threshold" in document["error"]["message"]


def test_a_folder_without_recordings_is_no_success(run: Run, tmp_path: Path) -> None:
    assert "no recordings in" in run("ingest", tmp_path, "-g", "mount", expect=1).stderr
    (tmp_path / "notes.txt").write_text("no audio")
    done = run("ingest", tmp_path, "-g", "mount", "--json", expect=1)
    assert (done.answer["found"], done.answer["ignored"]) == (0, 1)
    assert "1 file there: none looks like audio" in done.stderr
    assert [job["state"] for job in run("jobs", "list", "-g", "mount", "--json").answer["jobs"]] == ["failed"] * 2
    run("galleries", "delete", "mount", "--yes")  # Other tests list what is here.


def test_asking_makes_nothing(default_weights: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "typo"
    done = voxdex("speakers", "list", "--home", nowhere)
    assert (done.returncode, nowhere.exists()) == (4, False)
    assert str(nowhere) in done.stderr


@pytest.mark.parametrize("name", ["h %20 x", "q?x=1#a", "50%", "caf\u00e9 \U0001f600"])
def test_a_home_of_any_name_holds_its_own_database(name: str, tmp_path: Path) -> None:
    home = tmp_path / name
    done = voxdex("db", "upgrade", "--home", home)
    assert (done.returncode, done.stderr) == (0, "")
    assert (home / "voxdex.sqlite3").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_erasing_reaches_the_record_the_index_and_every_file(run: Run, home: Path, cut: Path) -> None:
    run("enroll", "Gone", cut / "MEE009" / "probe.wav", "-g", "erasure")
    run("enroll", "Stays", cut / "FEE083" / "enroll.wav", "-g", "erasure")
    from indexer.db.embeddings import Embeddings
    from indexer.db.galleries import Galleries
    from indexer.db.session import open_database
    from indexer.settings import load_settings
    from indexer.types import GalleryId

    database = open_database(load_settings(home=home))
    with database.read_scope() as session:
        row = Galleries(session).by_name("erasure")
        gallery_id = GalleryId(row.id)
        (gone, *_), *_ = [block[1] for block in Embeddings(session).stream(gallery_id, row.encoder_id)]
    database.close()
    needle = gone.astype("<f4").tobytes()[:64]
    assert any(needle in path.read_bytes() for path in home.rglob("*") if path.is_file())
    done = run("speakers", "delete", "Gone", "-g", "erasure", "--yes", "--json").answer
    assert (done["speakers"], done["recordings"]) == (1, 1)
    holders = [str(path) for path in home.rglob("*") if path.is_file() and needle in path.read_bytes()]
    assert holders == []
    # The name, and the path that may hold it, are gone too: from the rows, the notes of jobs and the free pages.
    for trace in (b"Gone", str(cut / "MEE009").encode()):
        assert [str(path) for path in home.rglob("*") if path.is_file() and trace in path.read_bytes()] == []
    found = run("identify", cut / "MEE009" / "probe.wav", "-g", "erasure", "--json").answer["results"][0]
    assert (found["decision"], [candidate["speaker"] for candidate in found["candidates"]]) == ("unknown", ["Stays"])
    run("galleries", "delete", "erasure", "--yes")
    assert not (home / "index" / str(gallery_id)).exists()
    run("identify", cut / "MEE009" / "probe.wav", "-g", "erasure", expect=4)


def test_what_is_kept_of_voices_is_readable_by_its_owner_only(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "a" / "home"
    assert voxdex("db", "upgrade", "--home", target).returncode == 0
    assert target.stat().st_mode & 0o077 == 0


def test_an_encoder_of_another_kind_is_refused_by_the_gallery(run: Run, gallery: str, cut: Path) -> None:
    tiny = Path(__file__).parent.parent / "parity" / "tiny.nemo"
    done = run("enroll", "Fee", cut / "FEE083" / "probe.wav", "-g", gallery, "--encoder", tiny, expect=5)
    assert "encoder-mismatch" in done.stderr


def test_the_installed_command_does_the_same_in_a_process_of_its_own(
    run: Run, gallery: str, cut: Path, home: Path
) -> None:
    command = [Path(sys.executable).with_name("voxdex"), "identify", cut / "FEE083" / "probe.wav", "-g", gallery]
    done = subprocess.run([*command, "--home", home], capture_output=True, text=True, timeout=300, check=True)
    assert "Fee" in done.stdout
    assert done.stderr == ""
