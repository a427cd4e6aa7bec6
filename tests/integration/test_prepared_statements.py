"""Statements that the driver runs itself say what a session says, at once, and fail as it does."""

import datetime as dt

import pytest
from sqlalchemy import bindparam, select, text

from indexer.db.galleries import Galleries, head_named, head_of, heads_of
from indexer.db.keys import Keys, any_key, key_of
from indexer.db.models import Gallery
from indexer.db.prepared import Prepared
from indexer.db.session import Database
from indexer.db.speakers import Speakers, speaker_named
from indexer.errors import NotFound
from tests.fakes import SpectrumEncoder
from tests.job_kit import make_gallery

_SOME = Prepared(select(Gallery.id, Gallery.name).where(Gallery.id.in_(bindparam("of", expanding=True))))


def _galleries(database: Database, count: int) -> list[int]:
    return [make_gallery(database, SpectrumEncoder(), f"number {place}") for place in range(count)]


def test_a_head_is_the_one_that_a_session_reads(database: Database) -> None:
    gallery_id = make_gallery(database, SpectrumEncoder())
    with database.session_scope() as session:
        Galleries(session).change(gallery_id, target_fpir=0.02, score_normalization=True)
    with database.read_scope() as session:
        read = Galleries(session).heads([gallery_id])[gallery_id]
    assert read.target_fpir == 0.02
    assert read.score_normalization is True
    assert head_of(database, gallery_id) == head_named(database, read.name) == read
    assert repr(head_named(database, read.name)) == repr(read)  # times too, which equality leaves out


def test_what_was_committed_is_read_at_once(database: Database) -> None:
    gallery_id = make_gallery(database, SpectrumEncoder())
    for _ in range(3):  # also where a statement was written and its connection used before
        for rate in (0.1, 0.2):
            with database.session_scope() as session:
                Galleries(session).change(gallery_id, target_fpir=rate)
            head = head_of(database, gallery_id)
            assert head is not None
            assert head.target_fpir == rate
    with database.session_scope() as session:
        Galleries(session).delete(gallery_id)
    assert head_of(database, gallery_id) is None
    with pytest.raises(NotFound, match="no gallery 'archive'"):
        head_named(database, "archive")


def test_a_key_is_the_one_that_a_session_reads_and_revoked_at_once(database: Database) -> None:
    gallery_id = make_gallery(database, SpectrumEncoder())
    assert not any_key(database)
    assert key_of(database, "k1") is None
    with database.session_scope() as session:
        made = Keys(session).add(
            public_id="k1",
            secret_sha256="0" * 64,
            name="call center",
            gallery_id=gallery_id,
            scopes=["identify", "read"],
            rate_limit_per_minute=5,
        )
    assert any_key(database)
    found = key_of(database, "k1")
    assert found == made
    assert found.scopes == ("identify", "read")
    assert found.gallery == "archive"
    assert found.created_at.utcoffset() == dt.timedelta(0)
    with database.session_scope() as session:
        Keys(session).revoke("k1")
    revoked = key_of(database, "k1")
    assert revoked is not None
    assert revoked.revoked_at is not None


def test_a_speaker_is_known_by_name_in_their_own_gallery_only(database: Database) -> None:
    here, elsewhere = (make_gallery(database, SpectrumEncoder(), name) for name in ("a", "b"))
    with database.session_scope() as session:
        ids = Speakers(session).get_or_create(here, ["Ada", "Zoë"])
    assert speaker_named(database, here, "Ada") == ids["Ada"]
    assert speaker_named(database, here, "Zoe\u0308") == ids["Zoë"]  # another form of the same name
    assert speaker_named(database, elsewhere, "Ada") is None
    with database.session_scope() as session:
        Speakers(session).delete(ids["Ada"])
    assert speaker_named(database, here, "Ada") is None


def test_heads_of_several_galleries_are_read_at_once_and_those_that_are_gone_are_absent(database: Database) -> None:
    first, second, third = (make_gallery(database, SpectrumEncoder(), name) for name in ("a", "b", "c"))
    with database.session_scope() as session:
        Galleries(session).delete(second)
    found = heads_of(database, [first, second, third])
    assert {number: head.name for number, head in found.items()} == {first: "a", third: "c"}
    assert heads_of(database, []) == {}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 9])
def test_however_many_are_asked_for_each_is_found_once(database: Database, count: int) -> None:
    numbers = _galleries(database, 9)
    asked = numbers[:count]
    for _ in range(2):
        assert sorted(row.id for row in _SOME.rows(database, of=asked)) == sorted(asked)
    assert sorted(row.id for row in _SOME.rows(database, of=[*asked, 10**6])) == sorted(asked)


def test_a_statement_fails_as_it_does_in_a_session(database: Database) -> None:
    with database.session_scope() as session:
        session.execute(text("ALTER TABLE api_keys RENAME TO elsewhere"))
    with pytest.raises(Exception) as by_session, database.read_scope() as session:  # noqa: PT011 - which, is asked
        Keys(session).any()
    with pytest.raises(type(by_session.value)):
        any_key(database)


@pytest.mark.postgres
@pytest.mark.parametrize("record_settings", ["postgres"], indirect=True)
def test_a_connection_that_was_lost_is_replaced(database: Database) -> None:
    gallery_id = make_gallery(database, SpectrumEncoder())
    connection = database.engine.raw_connection()  # so that another one ends it
    (mine,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    with database.session_scope() as session:
        assert session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": mine}).scalar_one()
    connection.close()
    assert head_of(database, gallery_id) is not None
