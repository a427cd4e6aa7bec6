"""A `.nemo` archive is read in memory, and a hostile or broken one is refused by name."""

import gzip
import io
import tarfile
import zlib
from typing import Any

import numpy as np
import pytest
import yaml

from indexer.embedding.nemo_archive import CONFIG_NAME, WEIGHTS_NAME, parse_config, read_nemo_archive
from indexer.errors import CorruptArtifact, UnsafeArtifact
from tests.parity.nemo_files import tar_bytes

CONFIG = (CONFIG_NAME, b"encoder: {scale: 8}\n")
WEIGHTS = (WEIGHTS_NAME, b"weights")


def _special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def test_both_members_are_read_whatever_else_the_archive_holds() -> None:
    archive = read_nemo_archive(tar_bytes([("./vocabulary.txt", b"x"), CONFIG, WEIGHTS], folder=True), "m.nemo")
    assert archive.config == {"encoder": {"scale": 8}}
    assert archive.weights == b"weights"


@pytest.mark.parametrize(
    ("member", "complaint"),
    [
        (("../evil.txt", b"x"), r"'\.\./evil\.txt' points outside"),
        (("a/../../evil.txt", b"x"), "points outside"),
        (("/etc/passwd", b"x"), "'/etc/passwd' points outside"),
        (("..\\evil.txt", b"x"), "points outside"),
        (_special("link", tarfile.SYMTYPE, "/etc/passwd"), "'link' is a link"),
        (_special(WEIGHTS_NAME, tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (_special("hard", tarfile.LNKTYPE, "model_config.yaml"), "'hard' is a link"),
        (_special("device", tarfile.CHRTYPE), "'device' is a link or a special file"),
        (_special("pipe", tarfile.FIFOTYPE), "special file"),
        (CONFIG, "occurs twice"),
        (("./" + CONFIG_NAME, b"encoder: {}"), "occurs twice"),
    ],
)
@pytest.mark.parametrize("compression", ["w", "w:gz"])
def test_a_hostile_member_is_refused_by_name(member: Any, complaint: str, compression: Any) -> None:
    data = tar_bytes([CONFIG, WEIGHTS, member], compression)
    with pytest.raises(UnsafeArtifact, match=complaint):
        read_nemo_archive(data, "m.nemo")


@pytest.mark.parametrize("name", [CONFIG_NAME, WEIGHTS_NAME, "other.bin"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_member_that_claims_an_absurd_size_is_refused_before_it_is_read(name: str, packed: bool) -> None:
    info = tarfile.TarInfo(name)
    info.size = 10**12
    data = info.tobuf(format=tarfile.GNU_FORMAT) + b"\0" * 1024
    with pytest.raises(UnsafeArtifact, match="1000000000000 bytes"):
        read_nemo_archive(gzip.compress(data) if packed else data, "m.nemo")


def test_an_extended_header_that_claims_an_absurd_size_is_refused() -> None:
    info = tarfile.TarInfo("header")
    info.type = tarfile.XHDTYPE
    info.size = 10**12
    with pytest.raises(UnsafeArtifact, match="unpacks to more than"):
        read_nemo_archive(gzip.compress(info.tobuf(format=tarfile.GNU_FORMAT) + b"\0" * 1024), "m.nemo")


def test_an_endless_run_of_members_is_refused() -> None:
    with pytest.raises(UnsafeArtifact, match="more than 1000 members"):
        read_nemo_archive(tar_bytes([(f"f{i}", b"") for i in range(1_001)], "w:gz"), "m.nemo")


@pytest.mark.parametrize("held", [[CONFIG], [WEIGHTS], [], [("other", b"x")]])
def test_a_missing_member_is_named(held: list[Any]) -> None:
    missing = CONFIG_NAME if CONFIG not in held else WEIGHTS_NAME
    with pytest.raises(CorruptArtifact, match=f"{missing} is missing"):
        read_nemo_archive(tar_bytes([*held, ("note", b"x")]), "m.nemo")


@pytest.mark.parametrize("compression", ["w", "w:gz"])
@pytest.mark.parametrize("keep", [0, 1, 100, 511, 700, 1_100, 1_540])
def test_an_archive_cut_anywhere_is_corrupt(keep: int, compression: Any) -> None:
    data = tar_bytes([CONFIG, (WEIGHTS_NAME, np.random.default_rng(0).bytes(10_000))], compression)
    with pytest.raises(CorruptArtifact):
        read_nemo_archive(data[:keep], "m.nemo")


@pytest.mark.parametrize("lost", [1, 8])
def test_a_compressed_archive_without_its_checksum_is_corrupt(lost: int) -> None:
    data = tar_bytes([CONFIG, WEIGHTS], "w:gz")
    with pytest.raises(CorruptArtifact):
        read_nemo_archive(data[:-lost], "m.nemo")


def test_a_compressed_archive_whose_checksum_disagrees_is_corrupt() -> None:
    data = bytearray(tar_bytes([CONFIG, WEIGHTS], "w:gz"))
    data[-8] ^= 1
    with pytest.raises(CorruptArtifact, match="CRC"):
        read_nemo_archive(bytes(data), "m.nemo")


@pytest.mark.parametrize("data", [b"", b"hello" * 300, b"\x1f\x8b" + b"junk" * 50, zlib.compress(b"x" * 2000)])
def test_what_is_no_archive_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptArtifact):
        read_nemo_archive(data, "m.nemo")


def test_sections_nested_under_model_are_found() -> None:
    text = yaml.safe_dump({"name": "x", "target": "T", "model": {"encoder": {"scale": 8}, "decoder": {}}}).encode()
    assert parse_config(text, "m.nemo") == {"name": "x", "target": "T", "encoder": {"scale": 8}, "decoder": {}}


def test_yaml_that_builds_objects_is_refused() -> None:
    with pytest.raises(UnsafeArtifact, match="asks for more than data"):
        parse_config(b"encoder: !!python/object/apply:os.system ['true']", "m.nemo")


@pytest.mark.parametrize(
    "text",
    [
        b"a: &a {x: 1}\nb: {<<: [*a, *a]}\n",
        b"[" * 60 + b"]" * 60,
        b"a: &a [1]\nb: [" + b", ".join([b"*a"] * 300) + b"]\n",
    ],
)
def test_yaml_that_explodes_is_refused(text: bytes) -> None:
    with pytest.raises(UnsafeArtifact, match="beyond what a configuration does"):
        parse_config(text, "m.nemo")


@pytest.mark.parametrize("text", [b"", b"just words", b"- 1\n- 2\n", b"a: [1", b"\xff\xfe\x00", b"a: \x01"])
def test_yaml_that_is_no_mapping_is_corrupt(text: bytes) -> None:
    with pytest.raises(CorruptArtifact):
        parse_config(text, "m.nemo")


def test_one_list_written_once_and_referred_to_is_plain_data() -> None:
    ones = [1, 1, 1]
    stream = io.StringIO()
    yaml.safe_dump({"encoder": {"kernel_sizes": ones, "dilations": ones}}, stream)
    assert "*id001" in stream.getvalue()
    assert parse_config(stream.getvalue().encode(), "m.nemo")["encoder"]["dilations"] == ones
