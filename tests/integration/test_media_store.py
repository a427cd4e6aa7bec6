"""Uploaded files: under names that say nothing, gone with their rows, and cleaned up after a crash."""

import os
import stat
import time
from pathlib import Path

import pytest

from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording
from indexer.db.session import Database
from indexer.errors import NotFound, Unavailable
from indexer.media import MediaStore, sweep_media
from indexer.types import GalleryId
from tests.fakes import SpectrumEncoder


@pytest.fixture
def media(tmp_path: Path) -> MediaStore:
    return MediaStore(tmp_path / "media")


def keep(media: MediaStore, gallery_id: int = 1) -> str:
    incoming = media.new_incoming()
    incoming.write_bytes(b"audio")
    return media.keep(incoming, GalleryId(gallery_id))


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_file_is_private_and_its_key_says_nothing(media: MediaStore) -> None:
    first, second = keep(media), keep(media)
    assert first != second
    assert media.path_of(first).read_bytes() == b"audio"
    assert stat.S_IMODE(media.root.stat().st_mode) == 0o700


@pytest.mark.parametrize("key", ["../secret", "1/ab/../../x", "/etc/passwd", "", "1/ab/" + "g" * 32, "1/ab"])
def test_what_was_not_given_out_opens_nothing(media: MediaStore, key: str) -> None:
    with pytest.raises(NotFound):
        media.path_of(key)


def test_a_gallery_takes_its_files_along_and_no_others(media: MediaStore) -> None:
    mine, theirs = keep(media, 1), keep(media, 12)
    media.drop(GalleryId(1))
    media.drop(GalleryId(7))
    assert not media.path_of(mine).exists()
    assert media.path_of(theirs).exists()
    media.delete([theirs, theirs])
    assert not media.path_of(theirs).exists()


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "media").write_text("a file stands where the folder should be")
    with pytest.raises(Unavailable, match="check the folder"):
        MediaStore(tmp_path / "media").new_incoming()


def test_what_a_crash_left_is_removed_and_what_a_row_names_stays(database: Database, media: MediaStore) -> None:
    named, orphan, young = keep(media), keep(media), keep(media)
    broken_off = media.new_incoming()
    broken_off.write_bytes(b"half")
    stranger = media.root / "README"
    stranger.write_text("not ours")
    waiting = media.new_incoming()
    waiting.write_bytes(b"a long recording")
    for path in (media.path_of(named), media.path_of(orphan), waiting, stranger):
        age(path, 7200)
    age(broken_off, 90_000)
    encoder = SpectrumEncoder()
    with database.session_scope() as session:
        row = Encoders(session).register(NewEncoder(encoder.id, "spectrum", "speechbrain", "0" * 64, "x", encoder.dim))
        gallery_id = GalleryId(Galleries(session).get_or_create("calls", row).id)
        Recordings(session).add(gallery_id, encoder.id, NewRecording("0" * 64, "upload:a", media_key=named))
    assert sweep_media(database, media) == 2
    left = {path for path in media.root.rglob("*") if path.is_file()}
    assert left == {media.path_of(named), media.path_of(young), waiting, stranger}
    assert sweep_media(database, media) == 0


def test_an_upload_that_was_worked_on_for_hours_is_young_when_it_is_kept(database: Database, media: MediaStore) -> None:
    incoming = media.new_incoming()
    incoming.write_bytes(b"audio")
    age(incoming, 7200)
    kept = media.keep(incoming, GalleryId(1))
    assert sweep_media(database, media) == 0  # Its row is about to be committed.
    assert media.path_of(kept).exists()
