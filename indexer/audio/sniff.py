"""Tells by content what a file is, before any decoder sees it; reads a few bytes and loads no decoder."""

import posixpath
from pathlib import Path

_AUDIO = (
    "wav wave rf64 w64 bwf flac ogg oga opus spx mp1 mp2 mp3 mpga m4a m4b mp4 aac adts aif aiff aifc au snd caf "
    "sph nist amr awb 3gp 3g2 wma asf webm weba mka ac3 eac3 dts voc wv tta ra"
)
_VIDEO = "m4v mov qt mkv avi wmv flv mpg mpeg mts m2ts vob ogv ogm mxf rm"
AUDIO_EXTENSIONS = frozenset(_AUDIO.split())
VIDEO_EXTENSIONS = frozenset(_VIDEO.split())
_NAMED_LIKE_AUDIO = AUDIO_EXTENSIONS | VIDEO_EXTENSIONS

HEAD_BYTES = 64
"""What `looks_like_audio` reads at most."""

# (offset, magic, container); the first that fits wins.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b".snd", "au"),
    (0, b"caff", "caf"),
    (0, b"NIST_1A", "nist"),
    (0, b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00", "w64"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"#!AMR", "amr"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"FLV\x01", "flv"),
    (0, b"\x00\x00\x01\xba", "mpeg-ps"),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "mxf"),
    (0, b"ID3", "id3"),
    (0, b"wvpk", "wavpack"),
    (0, b"TTA1", "tta"),
    (0, b".RMF", "real"),
    (0, b"ADIF", "aac"),
    (0, b"Creative Voice File\x1a", "voc"),
    (4, b"ftyp", "mp4"),
    (4, b"moov", "mp4"),
    (4, b"mdat", "mp4"),
    (4, b"wide", "mp4"),
)
_RIFF_KINDS = {b"WAVE": "wav", b"AVI ": "avi"}
_AIFF_KINDS = {b"AIFF", b"AIFC"}

_NOT_AUDIO: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"ID3\x00\x00\x00\x00", "an empty tag"),
)

# MPEG audio: bit rates in kbit/s by (MPEG-1?, layer), sampling rates by version bits. ISO/IEC 11172-3 2.4.2.3, 13818-3.
_BIT_RATES = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def extension_of(name: str) -> str:
    """Return the extension of a file's name, in lower case and without its dot.

    Of millions of names: `pathlib` would intern every part of each.
    """
    return posixpath.splitext(name)[1][1:].lower()


def is_named_like_audio(name: str) -> bool:
    """Tell whether a file's extension is one of audio or video."""
    return extension_of(name) in _NAMED_LIKE_AUDIO


def looks_like_audio(path: Path) -> bool:
    """Tell whether a file is worth handing to a decoder: a known audio or video extension, or a known first few bytes.

    True for text named `.wav`, which decoding then refuses by name: a file that claims to be audio is not passed over
    in silence. MPEG audio without a tag and without its extension is not recognized here; two bytes prove nothing.
    """
    if is_named_like_audio(path.name):
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return False
    return sniff_container(head) is not None


def sniff_container(head: bytes) -> str | None:
    """Name the container that the first bytes announce, or None; MPEG and ADTS audio need two frames in a row."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return _RIFF_KINDS.get(head[8:12])
    if head[:4] == b"FORM":
        return "aiff" if head[8:12] in _AIFF_KINDS else None
    for offset, magic, container in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return container
    if len(head) > 377 and head[0] == head[188] == head[376] == 0x47:
        return "mpeg-ts"
    length = mpeg_frame_bytes(head)
    if length and mpeg_frame_bytes(head[length:]):
        return "mp3"
    length = adts_frame_bytes(head)
    if length and adts_frame_bytes(head[length:]):
        return "aac"
    return None


def describe_other(head: bytes) -> str:
    """Say what a file that is no audio seems to be, for the message that refuses it."""
    for magic, what in _NOT_AUDIO:
        if head.startswith(magic):
            return what
    sample = head[:512]
    if sample and all(byte in b"\t\n\r\f" or byte >= 0x20 for byte in sample):
        return "text"
    return "data of no known kind"


def mpeg_frame_bytes(head: bytes) -> int | None:
    """Compute the length of the MPEG audio frame whose header starts here; None where no header does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bit_rate, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None
    kbits = _BIT_RATES[version == 3, layer][bit_rate]
    rate_hz = _MPEG_RATES[version][rate]
    if layer == 1:
        return (12_000 * kbits // rate_hz + padding) * 4
    return mpeg_frame_samples(head) // 8 * 1000 * kbits // rate_hz + padding


def mpeg_frame_samples(head: bytes) -> int:
    """Count the samples per channel in the MPEG audio frame that starts here."""
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    if layer == 1:
        return 384
    return 576 if layer == 3 and version != 3 else 1152


def mpeg_rate_hz(head: bytes) -> int:
    """Look up the sampling rate of the MPEG audio frame that starts here."""
    return _MPEG_RATES[head[1] >> 3 & 3][head[2] >> 2 & 3]


def adts_frame_bytes(head: bytes) -> int | None:
    """Read the length of the ADTS frame that starts here (ISO/IEC 13818-7 6.2); None where none does."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 0xF > 12:
        return None
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length >= 7 else None
