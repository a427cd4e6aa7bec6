"""Uploaded recordings that are kept: files below one folder, under names that say nothing.

A file is moved into its place before the row that names it is committed, and removed after the commit that takes the
row away. So a committed row always has its file, and what a crash can leave is a file that no row names: `sweep_media`
removes those.
"""

import logging
import os
import re
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

from indexer.db.recordings import Recordings
from indexer.db.session import Database
from indexer.errors import NotFound, Unavailable
from indexer.file_integrity import make_private_dir
from indexer.types import GalleryId

logger = logging.getLogger(__name__)

ORPHAN_AFTER_S = 3600.0
"""Age from which a file without a row is left over from a crash: it is kept right before its row is written."""

BROKEN_OFF_AFTER_S = 86_400.0
"""Silence after which an upload was broken off: a long one waits, and is decoded and embedded, before it is kept."""

_INCOMING = "incoming"
_KEY = re.compile(r"(\d+)/[0-9a-f]{2}/[0-9a-f]{32}")
_BATCH = 1000


class MediaStore:
    """Files of uploads below one folder that API and workers share.

    A key is `GALLERY/XX/XXXX...`: no name, no extension, no hash of the content, so that neither a listing of the
    folder nor a backup of it tells who spoke.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def new_incoming(self) -> Path:
        """Name a file that an upload can be written to, on the disk where it may stay.

        Raises
        ------
        Unavailable
            If the folder cannot be made.
        """
        try:
            return make_private_dir(self.root / _INCOMING) / uuid.uuid4().hex
        except OSError as error:
            raise Unavailable(f"{self.root}: uploads cannot be kept ({error.strerror}); check the folder") from error

    def keep(self, incoming: Path, gallery_id: GalleryId) -> str:
        """Move a file to its place and return its key; the same disk, so nothing is copied.

        Raises
        ------
        Unavailable
            If it cannot be moved.
        """
        name = uuid.uuid4().hex
        key = f"{gallery_id}/{name[:2]}/{name}"
        try:
            make_private_dir((self.root / key).parent)
            os.utime(incoming)  # Its age counts from now on, and moving it alone would keep that of its last byte.
            incoming.rename(self.root / key)
        except OSError as error:
            raise Unavailable(f"{self.root}: an upload cannot be kept ({error.strerror}); check the folder") from error
        return key

    def take_back(self, key: str, incoming: Path) -> None:
        """Move a file that no row names yet back to where it came from.

        Raises
        ------
        Unavailable
            If it cannot be moved.
        """
        try:
            self.path_of(key).rename(incoming)
        except OSError as error:
            raise Unavailable(f"{self.root}: an upload cannot be moved ({error.strerror}); check the folder") from error

    def path_of(self, key: str) -> Path:
        """Where a key's file is, or was.

        Raises
        ------
        NotFound
            If it is no key: nothing outside the folder is ever opened.
        """
        if not _KEY.fullmatch(key):
            raise NotFound(f"media key {key[:80]!r} is none that was given out")
        return self.root / key

    def delete(self, keys: Iterable[str]) -> None:
        """Remove files; one that is gone already is no error, one that cannot be removed stays an orphan."""
        for key in keys:
            path = self.path_of(key)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("an upload of an erased recording could not be removed: %s", error.strerror)
            with suppress(OSError):  # Other files may be in it.
                path.parent.rmdir()

    def drop(self, gallery_id: GalleryId) -> None:
        """Remove every file of a gallery that is gone."""
        rmtree(self.root / str(gallery_id), ignore_errors=True)

    def old_files(self, older_than_s: float) -> Iterator[tuple[str | None, Path]]:
        """Yield files that were kept long ago; the key is None for an upload that was never finished."""
        now = time.time()
        for path in self.root.rglob("*"):
            with suppress(OSError):  # Somebody else may remove it meanwhile.
                if not path.is_file() or path.is_symlink():
                    continue
                age_s = now - path.stat().st_mtime
                key = path.relative_to(self.root).as_posix()
                if _KEY.fullmatch(key):
                    if age_s >= older_than_s:
                        yield key, path
                elif path.parent == self.root / _INCOMING and age_s >= max(older_than_s, BROKEN_OFF_AFTER_S):
                    yield None, path


def sweep_media(database: Database, media: MediaStore, *, older_than_s: float = ORPHAN_AFTER_S) -> int:
    """Remove files that no recording names any more and uploads that were broken off; return how many.

    Parameters
    ----------
    older_than_s
        Younger files are left alone: their rows may be about to be committed. Those of uploads that were not
        finished are left for a day at least.
    """
    removed = 0
    some: dict[str, Path] = {}
    for key, path in media.old_files(older_than_s):
        if key is None:
            path.unlink(missing_ok=True)
            removed += 1
            continue
        some[key] = path
        if len(some) >= _BATCH:
            removed += _remove_unnamed(database, media, some)
            some = {}
    return removed + _remove_unnamed(database, media, some)


def _remove_unnamed(database: Database, media: MediaStore, keys: Collection[str]) -> int:
    if not keys:
        return 0
    with database.read_scope() as session:
        orphans = sorted(set(keys) - Recordings(session).named_media(keys))
    media.delete(orphans)
    return len(orphans)
