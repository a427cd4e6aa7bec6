"""Looks at how a file ends: inside a frame, or before the byte up to which its container says it reaches.

For the formats that FFmpeg reads; it decodes what is left of a file that was cut off and does not mention the rest.
What is not understood is not reported: a tag, padding and damage at the end are no proof of a cut.
"""

import struct
from collections.abc import Callable, Iterator

from indexer.audio.sniff import adts_frame_bytes, mpeg_frame_bytes
from indexer.audio.sources import SeekableFile

_WINDOW_BYTES = 1 << 16
_TAIL_BYTES = 1 << 18
"""Where frames are followed to the end in formats that can be joined anywhere; a frame has at most 8 KiB."""
_MAX_STEPS = 4_000_000
"""Frames followed in formats that must be followed from the start (22 h of AMR), so that no file takes minutes."""
_SURE_FRAMES = 4
"""Frames in a row that tell a real beginning from bytes that happen to look like one."""
_SLACK_BYTES = 64
"""What a RIFF size may be off by: writers that count their header, or an odd byte."""

# Bytes of a frame after its first, by frame type: speech, comfort noise, (wide band: 14, lost) and 15, nothing.
# 3GPP TS 26.101 and TS 26.201, annex A; RFC 4867 section 5.3.
_AMR_NB = {**dict(enumerate((12, 13, 15, 17, 19, 20, 26, 31, 5))), 15: 0}
_AMR_WB = {**dict(enumerate((17, 23, 32, 36, 40, 46, 50, 58, 60, 5))), 14: 0, 15: 0}
# kbit/s by frmsizecod / 2. ATSC A/52:2018 table 5.18.
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_MP4_BOXES = frozenset(b"ftyp styp moov mdat moof mfra free skip wide udta meta uuid sidx emsg pnot prft".split())
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_UNKNOWN = -1


class _Window:
    """Random access to a file through one block, because headers are a few bytes and lie close together."""

    def __init__(self, file: SeekableFile, size: int) -> None:
        self._file, self.size = file, size
        self._start, self._data = 0, b""

    def read(self, at: int, count: int) -> bytes:
        """Read so many bytes from there, fewer at the end of the file."""
        first = at - self._start
        if first < 0 or first + count > len(self._data):
            self._file.seek(at)
            self._start, self._data, first = at, self._file.read(max(count, _WINDOW_BYTES)), 0
        return self._data[first : first + count]


Measure = Callable[[bytes], int | None]
"""Length in bytes of the frame that begins here, None where none does."""


def find_cut(file: SeekableFile, size: int, container: str) -> str | None:
    """Say how the end of the file shows that it was cut off, or None where nothing shows it.

    Parameters
    ----------
    container : str
        As `indexer.audio.sniff.sniff_container` or FFmpeg calls it.

    Returns
    -------
    str or None
        The end of a sentence that begins with "decoded 1.2 s and found".
    """
    if container not in _LOOKS:
        return None
    try:
        return _LOOKS[container](_Window(file, size))
    except (OSError, struct.error, IndexError, ValueError, ArithmeticError):
        return None


def _inside(what: str) -> str:
    return f"that it ends in the middle of a {what}"


def _lacking(claimed: int, size: int) -> str:
    return f"{size} of the {claimed} bytes its header claims"


def _after_id3(window: _Window) -> int:
    """Skip ID3v2 tags, whose length is "synchsafe": seven bits a byte (ID3v2.4 section 6.2)."""
    at = 0
    while (head := window.read(at, 10))[:3] == b"ID3":
        at += 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + (10 if head[5] & 0x10 else 0)
    return at


def _before_tags(window: _Window) -> int:
    """Find where the tags at the end of the file begin: ID3v1, APEv2 and Lyrics3v2, in any order."""
    end = window.size
    for _ in range(8):
        if end >= 128 and window.read(end - 128, 3) == b"TAG":
            end -= 128
        elif end >= 32 and window.read(end - 32, 8) == b"APETAGEX":
            length, _, flags = struct.unpack("<III", window.read(end - 20, 12))
            begin = end - length - (32 if flags >> 31 else 0)
            if begin < 0 or (flags >> 31 and window.read(begin, 8) != b"APETAGEX"):
                break
            end = begin
        elif end >= 15 and window.read(end - 9, 9) == b"LYRICS200":
            begin = end - 15 - int(window.read(end - 15, 6))
            if begin < 0 or window.read(begin, 11) != b"LYRICSBEGIN":
                break
            end = begin
        else:
            break
    return end


def _frame_starts(data: bytes, at: int, sync: tuple[int, int], measure: Measure) -> Iterator[int]:
    """Yield where runs of frames begin that open with the two sync bytes (the second's lowest bit does not count)."""
    while (at := data.find(sync[0], at)) >= 0:
        follow = at
        for _ in range(_SURE_FRAMES):
            length = measure(data[follow : follow + 8]) if data[follow + 1 : follow + 2] else None
            if length is None or data[follow] != sync[0] or data[follow + 1] & 0xFE != sync[1] & 0xFE:
                break
            follow += length
        else:
            yield at
        at += 1


def _stream(measure: Measure) -> Callable[[_Window], str | None]:
    """Make a look at the end of a stream of frames that each carry a sync word and their size."""

    def look(window: _Window) -> str | None:
        begin, end = _after_id3(window), _before_tags(window)
        head = window.read(begin, _WINDOW_BYTES)
        first = next((i for i in range(min(len(head), 4096)) if _opens(head[i:], measure)), None)
        if first is None:
            return None
        sync = head[first], head[first + 1]
        # From the start where the file is short; else from the first run of frames in its tail.
        start = begin + first if end - begin <= _TAIL_BYTES else end - _TAIL_BYTES
        tail = window.read(start, end - start)
        at: int | None = 0 if start == begin + first else next(_frame_starts(tail, 0, sync, measure), None)
        while at is not None and at < len(tail):
            left = tail[at : at + 8]
            length = measure(left)
            if length is None:
                # A header cut in two; or a tag, padding, damage: frames may begin again behind it.
                if len(left) < 8 and left[0] == sync[0] and all(b & 0xFE == sync[1] & 0xFE for b in left[1:2]):
                    return _inside("frame")
                at = next(_frame_starts(tail, at + 1, sync, measure), None)
            elif at + length > len(tail):
                return _inside("frame")
            else:
                at += length
        return None

    return look


def _opens(head: bytes, measure: Measure) -> bool:
    length = measure(head[:8])
    return length is not None and (length >= len(head) or measure(head[length : length + 8]) is not None)


def _ac3_frame_bytes(head: bytes) -> int | None:
    """Compute the length of an AC-3 (ATSC A/52 section 5.4.1) or E-AC-3 (annex E 2.3.1) frame."""
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return None
    if head[5] >> 3 > 10:
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    rate, size = head[4] >> 6, head[4] & 0x3F
    if rate == 3 or size >= 2 * len(_AC3_KBITS):
        return None
    kbits = _AC3_KBITS[size // 2]
    return (4 * kbits, 2 * (kbits * 320 // 147 + size % 2), 6 * kbits)[rate]


def _follow(window: _Window, at: int, header_bytes: int, measure: Measure, what: str, slack: int = 0) -> str | None:
    """Go from unit to unit to the end of the file; whether the last one is whole but for the slack, in bytes."""
    for _ in range(_MAX_STEPS):
        if at >= window.size:
            return None
        length = measure(window.read(at, header_bytes))
        if length is None:
            return None
        if at + length > window.size + slack:
            return _inside(what)
        at += length
    return None


def _amr(window: _Window) -> str | None:
    head = window.read(0, 9)
    wide = head == b"#!AMR-WB\n"
    if not wide and head[:6] != b"#!AMR\n":
        return None  # several channels
    sizes = _AMR_WB if wide else _AMR_NB
    # Around the type stand a quality bit (4) and zeros: anything else is no frame.
    lengths = {kind << 3 | good: 1 + count for kind, count in sizes.items() for good in (0, 4)}
    del lengths[0]  # padding
    return _follow(window, 9 if wide else 6, 1, lambda unit: lengths.get(unit[0]), "frame")


def _wavpack(window: _Window) -> str | None:
    def measure(unit: bytes) -> int | None:
        if unit[:4] != b"wvpk"[: len(unit)]:
            return None
        return 8 + struct.unpack("<I", unit[4:])[0] if len(unit) == 8 else 8

    return _follow(window, 0, 8, measure, "block")


def _flv(window: _Window) -> str | None:
    """Compare with the size that onMetaData states, then go from tag to tag (Video File Format v10, annex E)."""
    found = window.read(0, 4096)
    at = found.find(b"\x00\x08filesize\x00")
    if at >= 0:
        claimed = int(struct.unpack(">d", found[at + 11 : at + 19])[0])
        if claimed > window.size:
            return _lacking(claimed, window.size)

    def measure(unit: bytes) -> int | None:
        if len(unit) and unit[0] & 0x1F not in (8, 9, 18):
            return None
        return 11 + int.from_bytes(unit[1:4], "big") + 4 if len(unit) >= 4 else 15

    return _follow(window, int.from_bytes(found[5:9], "big") + 4, 4, measure, "tag", slack=4)


def _mpeg_ts(window: _Window) -> str | None:
    """Look for part of a packet; they have 188 bytes, 192 with a time code before and 204 with a check sum behind."""
    head = window.read(0, 1024)
    for packet, sync in ((188, 0), (192, 4), (204, 0)):
        if all(head[at] == 0x47 for at in range(sync, len(head) - packet, packet)):
            left = window.size % packet
            part = window.read(window.size - left, left) if left else b""
            cut = (len(part) > sync and part[sync] == 0x47) or 0 < len(part) <= sync
            return _inside("packet") if cut else None
    return None


def _avi(window: _Window) -> str | None:
    at = 0
    while (head := window.read(at, 8))[:4] == b"RIFF" and len(head) == 8:
        length = struct.unpack("<I", head[4:])[0]
        if length == 0 or length >= 0x7FFFF000:  # written to a pipe
            return None
        at += 8 + length + length % 2
        if at > window.size + _SLACK_BYTES:
            return _lacking(at, window.size)
    return None


def _asf(window: _Window) -> str | None:
    """Find the data object (ASF specification 01.20.06, section 5); its size is 0 in a broadcast."""
    at = 0
    for _ in range(16):
        head = window.read(at, 24)
        length = struct.unpack("<Q", head[16:24])[0]
        if head[:16] == _ASF_DATA:
            return _lacking(at + length, window.size) if window.size < at + length < 1 << 60 else None
        if length < 24:
            break
        at += length
    return None


def _mp4(window: _Window) -> str | None:
    """Go from box to box (ISO/IEC 14496-12 section 4.2); only known ones, because tags look like boxes of 1 GiB."""
    at = 0
    for _ in range(_MAX_STEPS):
        head = window.read(at, 16)
        if len(head) < 8 or head[4:8] not in _MP4_BOXES:
            return None
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: to the end of the file
            return None
        at += length
        if at > window.size:
            return _lacking(at, window.size)
    return None


def _matroska(window: _Window) -> str | None:
    """Compare with the segment's size, or go from element to element where it is unknown (RFC 8794, RFC 9559)."""
    _, length, at = _element(window, 0)
    name, length, at = _element(window, at + length)
    if name != 0x18538067:
        return None
    if length != _UNKNOWN:
        return _lacking(at + length, window.size) if at + length > window.size else None
    for _ in range(_MAX_STEPS):
        if at >= window.size:
            return None
        if window.size - at < 2:
            return _inside("block")
        _, length, at = _element(window, at)
        if length != _UNKNOWN:  # a cluster of unknown size: its elements follow
            at += length
        if at > window.size:
            return _inside("block")
    return None


def _element(window: _Window, at: int) -> tuple[int, int, int]:
    """Read an EBML element's name and length, and where its content begins."""
    head = window.read(at, 12)
    name_width = 9 - head[0].bit_length()
    width = 9 - head[name_width].bit_length()
    if name_width > 4 or width > 8:
        raise ValueError("no EBML element")
    packed = int.from_bytes(head[name_width : name_width + width], "big") & (1 << 7 * width) - 1
    length = _UNKNOWN if packed == (1 << 7 * width) - 1 else packed
    return int.from_bytes(head[:name_width], "big"), length, at + name_width + width


def _tta(window: _Window) -> str | None:
    """Add up the seek table: a 32-bit size for each frame of 256/245 s, between two check sums (TTA1 format)."""
    at = _after_id3(window)
    rate, samples = struct.unpack("<II", window.read(at + 10, 8))
    count = -(-samples // (rate * 256 // 245))
    if 4 * count > window.size:
        return _lacking(at + 22 + 4 * count, window.size)
    end = at + 22 + 4 * count + 4 + sum(struct.unpack(f"<{count}I", window.read(at + 22, 4 * count)))
    return _lacking(end, window.size) if end > window.size else None


_mpeg_audio, _adts, _ac3 = _stream(mpeg_frame_bytes), _stream(adts_frame_bytes), _stream(_ac3_frame_bytes)
_LOOKS: dict[str, Callable[[_Window], str | None]] = {
    "mp3": _mpeg_audio,
    "aac": _adts,
    "ac3": _ac3,
    "eac3": _ac3,
    "amr": _amr,
    "wavpack": _wavpack,
    "wv": _wavpack,
    "flv": _flv,
    "mpeg-ts": _mpeg_ts,
    "mpegts": _mpeg_ts,
    "avi": _avi,
    "asf": _asf,
    "mp4": _mp4,
    "mov": _mp4,
    "matroska": _matroska,
    "tta": _tta,
}
