"""Objects of S3 and Google Cloud Storage as the source of a job, listed page by page in the order of their keys."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from indexer.archive import SpeakerRule
from indexer.audio.durations import guess_duration_s
from indexer.audio.sniff import is_named_like_audio
from indexer.errors import InvalidRequest, NotFound
from indexer.jobs.filesystems import filesystem, translated_errors
from indexer.jobs.source import Cursor, Listed, SourceEntry, UnusableEntry
from indexer.jobs.uris import normal_uri, rule_path, scheme_of

PAGE_KEYS = 1000
"""Keys that are asked for at once; S3 gives no more."""

Page = tuple[list[tuple[str, int]], bool]
"""Keys with their sizes in bytes, and whether there are more behind them."""

Lister = Callable[[str, str, str], Page]
"""Gives the page of a bucket's keys that begin with a prefix and come behind a key; sorted, from both services."""


@dataclass(frozen=True)
class BucketSource:
    """Every object below a prefix that is named like audio; an object that is named itself is taken as it is.

    A prefix ends where a part of the key ends: `s3://calls/2025` holds `2025/a.wav` and not `2025b/a.wav`. Parts that
    begin with a dot are passed over, as in folders.
    """

    uri: str
    speaker_rule: SpeakerRule
    lister: Lister

    def read(self, after: Cursor | None) -> Iterator[Listed]:
        """Step through the objects in the order of their keys."""
        scheme, bucket, key = _parts(self.uri)
        if key and not key.endswith("/"):
            if after is None:
                keys, _ = self.lister(bucket, key, "")
                if keys and keys[0][0] == key:
                    yield Listed(self._entry(self.uri, keys[0][1]), {"key": key})
                    return
            elif after["key"] == key:
                return
            key += "/"
        last, more, found = after["key"] if after else "", True, after is not None
        while more:
            keys, more = self.lister(bucket, key, last)
            for name, size in keys:
                last, found = name, True
                below = name.removeprefix(key)
                hidden = any(part.startswith(".") for part in below.split("/"))
                wanted = not hidden and not below.endswith("/") and is_named_like_audio(below)
                yield Listed(self._entry(f"{scheme}://{bucket}/{name}", size) if wanted else None, {"key": name})
        if not found:
            raise NotFound(f"{self.uri}: no object has this name or begins with it; check bucket and prefix")

    def _entry(self, uri: str, size: int) -> SourceEntry | UnusableEntry:
        try:
            if normal_uri(uri) != uri:
                raise InvalidRequest(f"{uri}: the key is spelled so that it could be taken for another; rename it")
            speaker = self.speaker_rule(rule_path(uri))
        except InvalidRequest as error:
            return UnusableEntry(uri, error)
        return SourceEntry(uri, speaker, size_bytes=size, estimated_s=guess_duration_s(uri, size))


def lister_of(uri: str, *, page_keys: int = PAGE_KEYS) -> Lister:
    """Return what lists the service that a URL belongs to, with the credentials that its library finds."""
    scheme = scheme_of(uri)
    page = {"s3": _s3_page, "gs": _gs_page}[scheme]

    def listed(bucket: str, prefix: str, after: str) -> Page:
        with translated_errors(uri):
            return page(filesystem(scheme), bucket, prefix, after, page_keys)

    return listed


def _s3_page(service: Any, bucket: str, prefix: str, after: str, most: int) -> Page:
    # The library's own listings keep everything they have seen; this is the call that they are made of.
    answer = service.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, StartAfter=after, MaxKeys=most)
    return [(item["Key"], item["Size"]) for item in answer.get("Contents", [])], answer.get("IsTruncated", False)


def _gs_page(service: Any, bucket: str, prefix: str, after: str, most: int) -> Page:
    asked: dict[str, Any] = {"maxResults": most, "fields": "items(name,size),nextPageToken"}
    if prefix:
        asked["prefix"] = prefix
    if after:
        asked["startOffset"] = after  # Includes the key itself.
    answer = service.call("GET", "b/{}/o", bucket, json_out=True, **asked)
    keys = [(item["name"], int(item["size"])) for item in answer.get("items", []) if item["name"] != after]
    return keys, "nextPageToken" in answer


def _parts(uri: str) -> tuple[str, str, str]:
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    return scheme, bucket, key
