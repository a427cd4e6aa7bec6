"""Cursors: where a list goes on, as text that clients hand back and do not look into."""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from api.schemas.common import ID_LIMIT, Page
from indexer.errors import InvalidRequest

Row = TypeVar("Row")
Item = TypeVar("Item")

_FORM = re.compile(rb"after:(\d{1,19})")


def after_of(cursor: str | None) -> int:
    """Id of the last row of the page before; 0 without a cursor.

    Raises
    ------
    InvalidRequest
        If it is no cursor that was given out.
    """
    if cursor is None:
        return 0
    try:
        match = _FORM.fullmatch(base64.urlsafe_b64decode(cursor.encode("ascii")))
    except (UnicodeEncodeError, binascii.Error, ValueError):
        match = None
    # Decoders pass over what is no base64, so only what would be written again counts.
    if match is None or int(match[1]) > ID_LIMIT or cursor_of(int(match[1])) != cursor:
        raise InvalidRequest("cursor is none that was given out; use `next_cursor` of the page before as it is")
    return int(match[1])


def cursor_of(last_id: int) -> str:
    """Write where a list goes on after the row of this id."""
    return base64.urlsafe_b64encode(b"after:%d" % last_id).decode("ascii")


def page_of(
    rows: Sequence[Row], limit: int, view: Callable[[Row], Item], *, id_of: Callable[[Row], int] | None = None
) -> Page[Item]:
    """Build a page from up to `limit` + 1 rows: one more than asked for tells that there is more."""
    number: Callable[[Any], int] = id_of or (lambda row: row.id)
    shown = rows[:limit]
    return Page[Any](
        items=[view(row) for row in shown],
        next_cursor=cursor_of(number(shown[-1])) if len(rows) > limit else None,
    )
