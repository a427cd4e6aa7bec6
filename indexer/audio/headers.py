"""What a file's own header claims, read without a decoder: the yardstick for "truncated" and "absurd".

Decoders quietly clamp a claim to the bytes at hand, and a truncated file then looks whole.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from indexer.audio.sniff import mpeg_frame_bytes, mpeg_frame_samples, mpeg_rate_hz
from indexer.audio.sources import SeekableFile

_MAX_CHUNKS = 10_000
_TAIL_BYTES = 1 << 17
_SCAN_BYTES = 1 << 16

WAVE_EXTENSIBLE = 0xFFFE
WAVE_BLOCKS = frozenset({0x0002, 0x0011, 0x0031})
"""Format tags of codecs that are decoded a block of many samples at a time: MS and IMA ADPCM, GSM 6.10."""
WAVE_MPEG = frozenset({0x0050, 0x0055})
"""Format tags of MPEG audio inside WAV, which libsndfile decodes with noise on standard error and loses the end of."""
WAVE_PLAIN = frozenset({0x0001, 0x0003})
"""Format tags of samples that stand in whole bytes: integers and floats."""


@dataclass(frozen=True)
class Claim:
    """What the header says; None where it says nothing (a stream whose length was not known when it was written).

    Attributes
    ----------
    frames : int or None
        Samples per channel.
    data_bytes, present_bytes : int or None
        Bytes that the header promises, and how many of them are in the file.
    unfinished : bool
        The format marks its end, and the mark is missing.
    chained : bool
        Ogg only: several recordings in a row, of which libsndfile silently reads the first.
    format_tag : int or None
        WAV only: the codec's number.
    block_bytes : int or None
        WAV only: what holds a whole number of samples.
    sample_bits, bytes_per_s : int or None
        WAV only: of one sample, and of all channels.
    """

    sample_rate_hz: int | None = None
    channels: int | None = None
    frames: int | None = None
    data_bytes: int | None = None
    present_bytes: int | None = None
    unfinished: bool = False
    chained: bool = False
    format_tag: int | None = None
    block_bytes: int | None = None
    sample_bits: int | None = None
    bytes_per_s: int | None = None

    @property
    def contradicts_itself(self) -> bool:
        """Whether two statements say that samples take other bytes than their bits do: decoders make noise of that.

        Of one wrong statement about bytes they take no notice. 24 bits in 4 bytes are written by some recorders, and
        read as such.
        """
        if self.format_tag not in WAVE_PLAIN or not (self.channels and self.sample_bits and self.sample_rate_hz):
            return False
        sample_bytes = (self.block_bytes or 0) / self.channels
        if sample_bytes not in (1, 2, 3, 4, 8) or self.bytes_per_s != self.sample_rate_hz * (self.block_bytes or 0):
            return False
        return sample_bytes != (self.sample_bits + 7) // 8 and (self.sample_bits, sample_bytes) != (24, 4)

    @property
    def ends_inside_block(self) -> bool:
        """Whether bytes are missing in the middle of a block whose samples are lost with them."""
        if self.format_tag not in WAVE_BLOCKS or not self.block_bytes or not self.truncated_bytes:
            return False
        return bool((self.present_bytes or 0) % self.block_bytes)

    @property
    def truncated_bytes(self) -> int:
        """How many promised bytes are not there."""
        if self.data_bytes is None or self.present_bytes is None:
            return 0
        return max(0, self.data_bytes - self.present_bytes)


def read_claim(file: SeekableFile, size: int, container: str | None) -> Claim:
    """Read what the header claims; an unreadable header claims nothing. The file is left at its start."""
    read = _READERS.get(container or "")
    if read is None:
        return Claim()
    try:
        file.seek(0)
        return read(file, size)
    except (OSError, struct.error, IndexError, ValueError, KeyError, OverflowError):
        return Claim()
    finally:
        file.seek(0)


def _present(claimed: int, start: int, size: int) -> tuple[int, int]:
    return claimed, max(0, min(claimed, size - start))


def _wav(file: SeekableFile, size: int) -> Claim:
    kind = file.read(12)[:4]
    order = ">" if kind == b"RIFX" else "<"
    claim, wide_data = Claim(), None
    for _ in range(_MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            break
        name, length = header[:4], struct.unpack(order + "I", header[4:])[0]
        start = file.tell()
        if name == b"ds64":
            wide_data = struct.unpack("<Q", file.read(16)[8:16])[0]
        elif name == b"fmt ":
            body = file.read(min(length, 40))
            tag, channels, rate, byte_rate, block = struct.unpack(order + "HHIIH", body[:14])
            bits = struct.unpack(order + "H", body[14:16])[0] if len(body) >= 16 else None
            if tag == WAVE_EXTENSIBLE and len(body) >= 26:
                tag = struct.unpack(order + "H", body[24:26])[0]
            claim = replace(
                claim,
                sample_rate_hz=rate,
                channels=channels,
                format_tag=tag,
                block_bytes=block,
                sample_bits=bits,
                bytes_per_s=byte_rate,
            )
        elif name == b"data":
            if length == 0xFFFFFFFF and wide_data is not None:
                length = wide_data
            # 0 and the values at and near 2^31 and 2^32 are what writers to a pipe leave there: length unknown.
            if length == 0 or 0xFFFFFF00 <= length < 1 << 32 or 0x7FFFF000 <= length <= 0x80000000:
                return claim
            data_bytes, present = _present(length, start, size)
            return replace(claim, data_bytes=data_bytes, present_bytes=present)
        file.seek(start + length + length % 2)
    return claim


def _w64(file: SeekableFile, size: int) -> Claim:
    file.seek(40)
    for _ in range(_MAX_CHUNKS):
        header = file.read(24)
        if len(header) < 24:
            break
        length, start = struct.unpack("<Q", header[16:])[0], file.tell()
        if header[:4] == b"data":
            data_bytes, present = _present(max(0, length - 24), start, size)
            return Claim(data_bytes=data_bytes, present_bytes=present) if 24 < length < 1 << 62 else Claim()
        file.seek(start - 24 + max(24, length + 7 & ~7))
    return Claim()


def _aiff(file: SeekableFile, size: int) -> Claim:
    file.seek(12)
    claim = Claim()
    for _ in range(_MAX_CHUNKS):
        header = file.read(8)
        if len(header) < 8:
            break
        name, length, start = header[:4], struct.unpack(">I", header[4:])[0], file.tell()
        if name == b"COMM":
            channels, _, _, exponent, mantissa = struct.unpack(">HIHHQ", file.read(18))
            # 80-bit IEEE 754 extended: value = mantissa * 2^(exponent - 16383 - 63).
            rate = int(mantissa * 2.0 ** ((exponent & 0x7FFF) - 16446)) if exponent & 0x7FFF < 16500 else 1 << 40
            claim = replace(claim, channels=channels, sample_rate_hz=rate)
        elif name == b"SSND":
            if length > 8 and length < 0xFFFFFF00:
                data_bytes, present = _present(length - 8, start + 8, size)
                claim = replace(claim, data_bytes=data_bytes, present_bytes=present)
            if claim.channels is not None:
                return claim
        file.seek(start + length + length % 2)
    return claim


def _au(file: SeekableFile, size: int) -> Claim:
    start, length, _, rate, channels = struct.unpack(">IIIII", file.read(24)[4:])
    claim = Claim(sample_rate_hz=rate, channels=channels)
    if length == 0xFFFFFFFF or length == 0:
        return claim
    data_bytes, present = _present(length, start, size)
    return replace(claim, data_bytes=data_bytes, present_bytes=present)


def _caf(file: SeekableFile, size: int) -> Claim:
    """Compute the length from the packet size: FFmpeg, which has to read what libsndfile refuses once cut, does not."""
    file.seek(8)
    claim, packet_bytes, packet_frames = Claim(), 0, 0
    for _ in range(_MAX_CHUNKS):
        header = file.read(12)
        if len(header) < 12:
            break
        length, start = struct.unpack(">q", header[4:])[0], file.tell()
        if header[:4] == b"data":
            if length <= 4:  # -1: written to a pipe
                return claim
            # The content begins with a count of edits.
            data_bytes, present = _present(length - 4, start + 4, size)
            frames = data_bytes // packet_bytes * packet_frames if packet_bytes else 0
            return replace(claim, frames=frames or None, data_bytes=data_bytes, present_bytes=present)
        if header[:4] == b"desc":
            rate, _, _, packet_bytes, packet_frames, channels = struct.unpack(">dIIIII", file.read(28))
            claim = Claim(sample_rate_hz=int(rate), channels=channels)
        if length < 0:
            break
        file.seek(start + length)
    return Claim()


def _flac(file: SeekableFile, size: int) -> Claim:
    body = file.read(8 + 34)[8:]
    packed = int.from_bytes(body[10:18], "big")
    rate, channels, frames = packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
    return Claim(sample_rate_hz=rate, channels=channels, frames=frames or None)


def _nist(file: SeekableFile, size: int) -> Claim:
    text = file.read(1024)
    header_bytes = int(text.split(b"\n", 2)[1])
    if header_bytes > 1024:
        text += file.read(min(header_bytes, _SCAN_BYTES) - 1024)
    fields: dict[bytes, bytes] = {}
    for line in text.split(b"end_head")[0].split(b"\n")[2:]:
        parts = line.split(None, 2)
        if len(parts) == 3:
            fields[parts[0]] = parts[2].strip()
    frames = int(fields.get(b"sample_count", b"0"))
    return Claim(
        sample_rate_hz=int(fields[b"sample_rate"]) if b"sample_rate" in fields else None,
        channels=int(fields.get(b"channel_count", b"1")),
        frames=frames or None,
    )


def _mp3(file: SeekableFile, size: int) -> Claim:
    """Take the frame count from the Xing/Info tag, if the encoder left one; it includes delay and padding."""
    head = file.read(10)
    at = 0
    if head[:3] == b"ID3":
        # The tag's length is "synchsafe": seven bits a byte (ID3v2.4 section 6.2).
        at = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
    file.seek(at)
    data = file.read(4096)
    first = next((i for i in range(len(data) - 4) if mpeg_frame_bytes(data[i:])), None)
    if first is None:
        return Claim()
    frame = data[first:]
    claim = Claim(sample_rate_hz=mpeg_rate_hz(frame))
    tag = max(frame[:64].find(b"Xing"), frame[:64].find(b"Info"))
    if tag < 0:
        return claim
    flags, count = struct.unpack(">II", frame[tag + 4 : tag + 12])
    return replace(claim, frames=count * mpeg_frame_samples(frame)) if flags & 1 else claim


def _matroska(file: SeekableFile, size: int) -> Claim:
    data = file.read(4096)
    at = data.find(b"\x18\x53\x80\x67") + 4
    if at < 4:
        return Claim()
    width = 9 - data[at].bit_length()
    length = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
    if length == (1 << 7 * width) - 1:  # all ones: written to a pipe, size unknown
        return Claim()
    data_bytes, present = _present(length, at + width, size)
    return Claim(data_bytes=data_bytes, present_bytes=present)


def _tta(file: SeekableFile, size: int) -> Claim:
    channels, _, rate, frames = struct.unpack("<HHII", file.read(18)[6:])
    return Claim(sample_rate_hz=rate, channels=channels, frames=frames or None)


def _wavpack(file: SeekableFile, size: int) -> Claim:
    """Take the 40-bit sample count from the first block (WavPack 4 & 5 binary format); all ones: unknown."""
    head = file.read(16)
    low = struct.unpack("<I", head[12:])[0]
    # The format keeps 2^32 - 1 for "unknown", so the high byte counts from there.
    return Claim(frames=(head[11] << 32) + low - head[11]) if low not in (0, 0xFFFFFFFF) else Claim()


def _ogg(file: SeekableFile, size: int) -> Claim:
    """Look for the page that says it is the last (RFC 3533 section 6): a stream that was cut off has none."""
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    last = tail.rfind(b"OggS\x00")
    if last < 0 or last + 27 > len(tail):
        return Claim(unfinished=True)
    segments = tail[last + 26]
    table = tail[last + 27 : last + 27 + segments]
    whole = len(table) == segments and last + 27 + segments + sum(table) <= len(tail)
    return Claim(unfinished=not (whole and tail[last + 5] & 4), chained=_ogg_is_chained(file, size))


def _ogg_is_chained(file: SeekableFile, size: int) -> bool:
    """Walk from page to page until a logical stream begins after another one's sound (RFC 3533 section 4)."""
    at, sounding = 0, False
    while at + 27 <= size:
        file.seek(at)
        page = file.read(27 + 255)
        if page[:4] != b"OggS":
            return False
        begins = bool(page[5] & 2)
        if begins and sounding:
            return True
        sounding = sounding or not begins
        at += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return False


_READERS: dict[str, Callable[[SeekableFile, int], Claim]] = {
    "wav": _wav,
    "w64": _w64,
    "aiff": _aiff,
    "au": _au,
    "caf": _caf,
    "flac": _flac,
    "nist": _nist,
    "mp3": _mp3,
    "id3": _mp3,
    "matroska": _matroska,
    "tta": _tta,
    "wavpack": _wavpack,
    "ogg": _ogg,
}
