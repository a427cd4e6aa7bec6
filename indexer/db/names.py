"""What may be a name in the record, and how it is kept."""

import unicodedata

from indexer.errors import InvalidRequest

NAME_LIMIT = 200
"""Most characters of a gallery's or speaker's name."""


def require_text(kind: str, value: str) -> str:
    """Refuse text that one of the two databases could not keep (NUL, lone surrogates of undecodable file names)."""
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidRequest(f"{kind} {value!r} holds bytes that are not text: rename it or percent-encode it")
    return value


def canonical(name: str) -> str:
    """Write a name as the record keeps it (NFC): systems write one and the same `ü` as one character or as two."""
    return unicodedata.normalize("NFC", name)


def require_name(kind: str, name: str) -> str:
    """Return a name as it is kept.

    Refuses one that is empty, too long, padded with blanks or unprintable, or that no URL could hold.
    """
    name = canonical(require_text(kind, name))
    if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > NAME_LIMIT:
        raise InvalidRequest(
            f"{kind} name {name[:80]!r} ({len(name)} characters) must be 1 to {NAME_LIMIT} printable characters "
            "without blanks around them"
        )
    if name in {".", ".."}:  # HTTP libraries take these for steps within a path, percent-encoded or not.
        raise InvalidRequest(f"{kind} name {name!r} cannot be part of a URL: choose another one")
    return name
