import datetime as dt

import numpy as np
import pytest
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import RelationshipProperty, configure_mappers

from indexer.db.models import Base, UnitVector, UtcDateTime
from indexer.errors import CorruptArtifact, EncoderMismatch, InvalidRequest, NonFiniteEmbedding
from indexer.vectors import EMPTY, Fingerprint, checksums_of, require_unit_rows
from tests.vectors import unit_vectors

_SQLITE = sqlite.dialect()


def test_every_constraint_and_index_has_a_name() -> None:
    for table in Base.metadata.tables.values():
        for constraint in (*table.constraints, *table.indexes):
            assert constraint.name, (table.name, constraint)


def test_no_relationship_loads_unasked_and_deletes_cascade_in_the_database() -> None:
    configure_mappers()
    for mapper in Base.registry.mappers:
        for prop in mapper.attrs:
            if isinstance(prop, RelationshipProperty):
                assert prop.lazy == "raise", prop
    for table in Base.metadata.tables.values():
        for key in table.foreign_keys:
            assert key.ondelete in {"CASCADE", "RESTRICT", "SET NULL"}, key


def test_no_numbered_table_uses_an_id_again_on_sqlite() -> None:
    for table in Base.metadata.tables.values():
        if "id" in table.columns and table.name not in {"encoders", "calibrations"}:
            assert table.dialect_options["sqlite"]["autoincrement"] is True, table.name


def test_a_vector_is_stored_as_its_little_endian_floats() -> None:
    column, (vector,) = UnitVector(), unit_vectors(1)
    stored = column.process_bind_param(vector, _SQLITE)
    assert stored == vector.astype("<f4").tobytes()
    assert column.process_bind_param(vector.astype(">f4"), _SQLITE) == stored
    assert column.process_bind_param(vector.astype(np.float64), _SQLITE) == stored
    read = column.process_result_value(stored, _SQLITE)
    assert read is not None
    np.testing.assert_array_equal(read, vector)
    assert not read.flags.writeable


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (unit_vectors(1, dim=191)[0], EncoderMismatch),
        (unit_vectors(2), EncoderMismatch),
        (np.full(192, np.inf), NonFiniteEmbedding),
        (np.full(192, 1.0), InvalidRequest),
    ],
)
def test_only_one_finite_unit_vector_is_stored(value: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error):
        UnitVector().process_bind_param(value, _SQLITE)


def test_bytes_that_are_no_vector_are_reported() -> None:
    with pytest.raises(CorruptArtifact, match="767 bytes where 768"):
        UnitVector().process_result_value(b"x" * 767, _SQLITE)


def test_times_are_aware_and_in_utc_on_both_databases() -> None:
    column = UtcDateTime()
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert column.process_bind_param(noon, _SQLITE) == dt.datetime(2026, 1, 1, 10, tzinfo=dt.UTC)
    assert column.process_result_value(dt.datetime(2026, 1, 1, 10), _SQLITE) == noon
    read = column.process_result_value(noon, postgresql.dialect())
    assert read is not None
    assert read.tzinfo is dt.UTC
    with pytest.raises(ValueError, match="no time zone"):
        column.process_bind_param(dt.datetime(2026, 1, 1), _SQLITE)


def test_the_checksum_is_the_crc32_of_the_bytes_worked_out_elsewhere() -> None:
    one = np.zeros((1, 192), dtype=np.float32)
    one[0, 0] = 1.0
    # `python -c "import binascii; print(binascii.crc32(bytes.fromhex('0000803f') + bytes(764)))"`
    assert checksums_of(one).tolist() == [1133438261]


def test_fingerprints_add_up_and_tell_every_kind_of_difference() -> None:
    ids, sums = np.arange(1, 9), checksums_of(unit_vectors(8))
    whole = Fingerprint.of(ids, sums)
    assert Fingerprint.of(ids[:3], sums[:3]) + Fingerprint.of(ids[3:], sums[3:]) == whole
    assert Fingerprint.of(ids[:0], sums[:0]) == EMPTY
    assert Fingerprint.of(ids[::-1], sums[::-1]) == whole
    swapped = sums.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    changed = sums.copy()
    changed[4] ^= 1
    others = [
        Fingerprint.of(ids[:-1], sums[:-1]),
        Fingerprint.of(ids, swapped),
        Fingerprint.of(ids, changed),
        Fingerprint.of(ids + 1, sums),
    ]
    assert whole not in others


def test_unit_rows_survive_rounding_and_come_back_contiguous() -> None:
    rows = unit_vectors(1000)[::2]
    assert require_unit_rows(rows, 192).flags.c_contiguous
    np.testing.assert_array_equal(require_unit_rows(rows, 192), rows)
