"""Check of a MATLAB v5 file before it is loaded: its arrays may claim any size.

The format is that of MathWorks' "MAT-File Format", chapter 1: elements of a type, a size and data.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator

MAX_MAT_BYTES = 1 << 30
"""Largest MATLAB file, largest sum of its elements once unpacked, and largest array of one."""

_MATRIX, _COMPRESSED, _INT32 = 14, 15, 5  # types of elements
_SPARSE = 5  # class of an array whose dimensions say nothing about its size
_DEEPEST = 50  # arrays in cells and structs
_SLACK = 1 << 20  # elements that an array may claim beyond the bytes that it has


def check_sizes(content: bytes) -> None:
    """Check that no array of a file claims more elements than it has bytes.

    Args:
        content: of a MATLAB v5 file.

    Raises:
        ValueError: an array does, arrays are nested too deeply, or compressed ones unpack to more
            than `MAX_MAT_BYTES`.
    """
    order = ">" if content[126:128] == b"MI" else "<"
    budget = MAX_MAT_BYTES
    for kind, body in _elements(memoryview(content)[128:], order):
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            inside = unpacker.decompress(body, budget)
            if unpacker.unconsumed_tail:
                raise ValueError(f"it unpacks to more than {MAX_MAT_BYTES} bytes")
            budget -= len(inside)
            for inner, inner_body in _elements(memoryview(inside), order):
                _check(inner, inner_body, order, 0)
        else:
            _check(kind, body, order, 0)


def _check(kind: int, body: memoryview, order: str, depth: int) -> None:
    if kind != _MATRIX:
        return
    if depth > _DEEPEST:
        raise ValueError(f"its arrays are nested more than {_DEEPEST} deep")
    parts = _elements(body, order)
    _, flags = next(parts, (0, memoryview(b"")))
    dimensions_kind, dimensions = next(parts, (0, memoryview(b"")))
    if dimensions_kind == _INT32 and len(flags) >= 4:
        whole = dimensions[: len(dimensions) // 4 * 4]
        count = math.prod(size for (size,) in struct.iter_unpack(f"{order}i", whole))
        of_class = flags[0] if order == "<" else flags[3]
        if of_class != _SPARSE and count > len(body) + _SLACK:
            raise ValueError(f"an array claims {count} elements, but has {len(body)} bytes")
    for inner, inner_body in parts:
        _check(inner, inner_body, order, depth + 1)


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and data of the elements; the last one may be cut off."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # a small element: its size beside the type, its data behind them
            yield kind & 0xFFFF, data[at + 4 : at + 4 + min(kind >> 16, 4)]
            at += 8
            continue
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size + (0 if kind == _COMPRESSED else -size % 8)
