"""Names of files: absolute paths and URLs, in the one spelling that rules are applied to and the record keeps."""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from indexer.errors import InvalidRequest, one_line

REMOTE_SCHEMES = ("s3", "gs", "https", "http")
MAX_URI_BYTES = 2000
"""Longest name of a file, in UTF-8: Postgres indexes no text of more than 2,704 bytes."""

_QUERY = re.compile(r"(https?://[^?'\"\n]*)\?[^\s'\"]*?(?=[:;,.)]*(?:[\s'\"]|$))", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")


def scheme_of(uri: str) -> str:
    """Return the scheme in lower case; nothing for a path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else ""


def local_path(uri: str) -> Path | None:
    """Return the local file that a normal URI names, or None where it is elsewhere."""
    return None if scheme_of(uri) else Path(uri)


def normal_uri(text: str) -> str:
    """Bring a path or URL into its one spelling; a `file://` URL becomes the path it names.

    Raises
    ------
    InvalidRequest
        If it is relative, of a scheme that is not read, or spelled so that two readers could take it for two things.
    """
    require_short(text)
    scheme = scheme_of(text)
    if scheme in ("", "file"):
        return _normal_path(_path_of(text) if scheme else text)
    if scheme not in REMOTE_SCHEMES:
        raise InvalidRequest(f"{text!r}: {scheme}:// is not read; use a path, file://, s3://, gs:// or https://")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise InvalidRequest(f"{text!r} holds control characters, which have no place in a URL")
    if scheme in ("s3", "gs"):
        return _normal_object(scheme, text)
    return _normal_web(text)


def without_queries(text: str) -> str:
    """Cut the query off every web address in a text: that of a presigned URL lets whoever reads it in.

    Fetching needs the whole address, which only a job's own rows have; what is shown, and what outlives a job, has not.
    """
    return _QUERY.sub(r"\1", text)


def require_short(text: str) -> None:
    """Refuse a name that is too long to be found again by it."""
    size = len(text.encode("utf-8", errors="backslashreplace"))
    if size > MAX_URI_BYTES:
        raise InvalidRequest(f"{text[:80]!r}... has {size} bytes, the limit is {MAX_URI_BYTES}; shorten path or name")


def absolute_uri(text: str, base: str) -> str:
    """Resolve what a manifest names against the manifest's own normal URI, and bring it into its one spelling."""
    if scheme_of(text) or text.startswith("/"):
        return normal_uri(text)
    base_scheme, folder = scheme_of(base), base.partition("?")[0].rpartition("/")[0]
    if base_scheme in ("https", "http"):
        text = quote(text, safe="/%:@!$&'()*+,;=~")
    return normal_uri(f"{folder}/{text}")


def rule_path(uri: str) -> Path:
    """Return what speaker rules are applied to: the path, or for a URL `/` with host or bucket and path."""
    scheme = scheme_of(uri)
    if not scheme:
        return Path(uri)
    rest = uri.partition("://")[2]
    return Path("/" + (unquote(rest.partition("?")[0]) if scheme in ("https", "http") else rest))


def _path_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidRequest(f"{url!r} is no URL ({error})") from error
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise InvalidRequest(f"{url!r}: write file:/// and an absolute path")
    return unquote(parts.path)


def _normal_path(text: str) -> str:
    if not text.startswith("/"):
        raise InvalidRequest(f"{text!r} is relative: give an absolute path, as the workers see it")
    if "\0" in text:
        raise InvalidRequest(f"{text!r} holds a NUL byte: no file is called that")
    # What `..` leads to depends on links; without it the spelling alone decides.
    return str(resolved(Path(text)) if ".." in Path(text).parts else Path(os.path.normpath(text)))


def resolved(path: Path) -> Path:
    """Follow every link of a path; InvalidRequest where they lead in a circle."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError is what Python 3.11 says of a circle.
        raise InvalidRequest(f"{str(path)!r} cannot be followed to a file ({one_line(error)})") from error


def _normal_object(scheme: str, text: str) -> str:
    bucket, _, key = text.partition("://")[2].partition("/")
    if not _BUCKET.fullmatch(bucket) or "::" in key or any(part in ("..", ".") for part in key.split("/")):
        raise InvalidRequest(f"{text!r}: give {scheme}://bucket/key, without '.', '..' and '::' in the key")
    return f"{scheme}://{bucket}/{key}"


def _normal_web(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is no URL ({error})") from error
    if not host or parts.username is not None or parts.password is not None or "\\" in text or " " in text:
        raise InvalidRequest(f"{text!r}: give https://host/path, without user, blanks and backslashes")
    if any(part in ("..", ".") for part in re.split(r"[/\\]", unquote(unquote(parts.path)))):
        raise InvalidRequest(f"{text!r}: '.' and '..' have no place in a URL's path")
    host = f"[{host}]" if ":" in host else host
    netloc = host if port is None or port == {"https": 443, "http": 80}[parts.scheme] else f"{host}:{port}"
    return parts._replace(netloc=netloc, path=parts.path or "/", fragment="").geturl()
