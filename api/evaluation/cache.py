"""What was heard of a recording before, by its content: a second evaluation takes seconds."""

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from api.evaluation.hearing import HeardRecording
from indexer.errors import Unavailable
from indexer.types import EncoderId

_FILE = "heard-1.sqlite3"
"""The number is of the tables below: another layout is another file."""

_WAIT_S = 60.0

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS heard (
        content TEXT NOT NULL, hearing TEXT NOT NULL, encoder TEXT NOT NULL, document TEXT NOT NULL, vector BLOB,
        PRIMARY KEY (content, hearing, encoder)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS vectors (
        waveform TEXT NOT NULL, encoder TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (waveform, encoder)
    ) WITHOUT ROWID
    """,
)


class HeardCache:
    """Keeps what was heard, by content, way of hearing and encoder, and vectors by waveform; processes may share it.

    Parameters
    ----------
    folder
        Made if new; the file in it, readable by its owner alone, may be deleted at any time between two runs.

    Raises
    ------
    Unavailable
        If it cannot be opened or written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Vectors are of voices: nobody else on the machine reads them. SQLite's side files get the same mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            for table in _TABLES:
                self._database.execute(table)
        except (OSError, sqlite3.Error) as error:
            raise self._unavailable(error) from error

    def find(self, content: str, hearing: str, encoders: Sequence[EncoderId]) -> HeardRecording | None:
        """Return what was heard under all of these encoders; None where one is missing."""
        rows: dict[EncoderId, tuple[str, bytes | None]] = {}
        query = "SELECT document, vector FROM heard WHERE content = ? AND hearing = ? AND encoder = ?"
        try:
            for encoder in encoders:
                with closing(self._database.execute(query, (content, hearing, encoder))) as found:
                    row = found.fetchone()
                if row is None:
                    return None
                rows[encoder] = row
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        vectors = {encoder: _unit(vector) for encoder, (_, vector) in rows.items() if vector is not None}
        return HeardRecording(vectors=vectors, **json.loads(next(iter(rows.values()))[0]))

    def keep(self, content: str, hearing: str, encoders: Sequence[EncoderId], heard: HeardRecording) -> None:
        """Remember a recording; another process may have done so meanwhile, with the same answer."""
        document = json.dumps(
            {
                "duration_s": heard.duration_s,
                "net_speech_s": heard.net_speech_s,
                "snr_db": heard.snr_db,
                "telephone": heard.telephone,
                "voices": heard.voices,
                "refusal": heard.refusal,
            }
        )
        rows = [(content, hearing, encoder, document, _blob(heard.vectors, encoder)) for encoder in encoders]
        try:
            self._database.executemany("INSERT OR REPLACE INTO heard VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def vectors(self, waveforms: Sequence[str], encoder: str) -> dict[str, NDArray[np.float32]]:
        """Return the unit vectors that are known of waveforms, by their SHA-256."""
        query = "SELECT vector FROM vectors WHERE waveform = ? AND encoder = ?"
        found = {}
        try:
            for waveform in waveforms:
                with closing(self._database.execute(query, (waveform, encoder))) as rows:
                    if (row := rows.fetchone()) is not None:
                        found[waveform] = _unit(row[0])
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        return found

    def keep_vectors(self, vectors: Mapping[str, NDArray[np.float32]], encoder: str) -> None:
        """Remember vectors of waveforms."""
        rows = [(waveform, encoder, vector.astype("<f4").tobytes()) for waveform, vector in vectors.items()]
        try:
            self._database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"{self._path}: the cache of evaluations fails ({error}); delete it, free space, or give --no-cache"
        )


def _blob(vectors: Mapping[EncoderId, NDArray[np.float32]], encoder: EncoderId) -> bytes | None:
    return vectors[encoder].astype("<f4").tobytes() if encoder in vectors else None


def _unit(blob: bytes) -> NDArray[np.float32]:
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)
