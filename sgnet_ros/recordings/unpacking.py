"""Decompression in bounded memory and disk space: a few bytes may unpack to any size."""

from __future__ import annotations

import bz2
import shutil
from pathlib import Path

import lz4.frame
import zstandard

MAX_RECORD_BYTES = 1 << 30
"""Largest unpacked chunk or message of a recording. Recorders write chunks of about 1 MB."""

MAX_FILE_RATIO = 100
"""A file of a bag may unpack to this many times its size, or to `MAX_RECORD_BYTES`."""

_PIECE = 1 << 20


class UnpackingError(ValueError):
    """Data that unpack to more than is allowed."""


def unpack(data: bytes, compression: str, limit: int) -> bytes:
    """Return decompressed data.

    Args:
        data: one frame of the compression; bytes after it are ignored.
        compression: ``zstd``, ``lz4`` or ``bz2``.
        limit: largest number of decompressed bytes.

    Raises:
        UnpackingError: the decompressed data exceed the limit.
        ValueError: the compression is unknown.
        Exception: the data are damaged; the type is the decompressor's.
    """
    if compression == "zstd":
        return _unpack_zstd(data, limit)
    more: bytes
    if compression == "lz4":
        with lz4.frame.LZ4FrameDecompressor() as lz4_frame:
            unpacked: bytes = lz4_frame.decompress(data, max_length=limit)
            more = b"" if lz4_frame.eof else lz4_frame.decompress(b"", max_length=1)
    elif compression == "bz2":
        stream = bz2.BZ2Decompressor()
        unpacked = stream.decompress(data, max_length=limit)
        more = b"" if stream.eof or stream.needs_input else stream.decompress(b"", max_length=1)
    else:
        raise ValueError(f"compression {compression!r} is unknown")
    if more:
        raise UnpackingError(f"it unpacks to more than {limit} bytes")
    return unpacked


def _unpack_zstd(data: bytes, limit: int) -> bytes:
    declared = zstandard.frame_content_size(data)
    if declared > limit:
        raise UnpackingError(f"it unpacks to {declared} bytes, more than {limit}")
    unpacker = zstandard.ZstdDecompressor()
    if declared >= 0:
        return unpacker.decompress(data)
    pieces, size = [], 0
    with unpacker.stream_reader(data) as stream:
        while piece := stream.read(_PIECE):
            size += len(piece)
            if size > limit:
                raise UnpackingError(f"it unpacks to more than {limit} bytes")
            pieces.append(piece)
    return b"".join(pieces)


def unpack_file(packed: Path, target: Path) -> None:
    """Decompress a zstd file.

    Raises:
        UnpackingError: the file unpacks to more than `MAX_FILE_RATIO` allows or the disk can hold.
        Exception: the file is damaged; the type is the decompressor's.
    """
    ratio_limit = max(MAX_RECORD_BYTES, MAX_FILE_RATIO * packed.stat().st_size)
    free = shutil.disk_usage(target.parent).free
    limit, reason = min(
        (ratio_limit, f"{MAX_FILE_RATIO} times its size"),
        (free, f"the free space in {target.parent}"),
    )
    written = 0
    with packed.open("rb") as file, target.open("wb") as output:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        while piece := reader.read(_PIECE):
            written += len(piece)
            if written > limit:
                raise UnpackingError(f"it unpacks to more than {limit} bytes, {reason}")
            output.write(piece)
