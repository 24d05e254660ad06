"""Check a MATLAB v5 file before SciPy loads it, because SciPy trusts its sizes and types.

MathWorks' "MAT-File Format", chapter 1, describes the format: elements with a type, a size and
data. An array is an element of other elements: flags, dimensions, name, and data by its class.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator

MAX_MAT_BYTES = 1 << 30
"""Maximum size of a file, of all its decompressed elements together, and of an array."""

_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15  # types of elements
_NUMBERS = {*range(1, 8), 9, 12, 13}
_TEXTS = {1, 2, 3, 4, 16, 17, 18}
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE = 1, 2, 3, 4, 5  # classes of arrays
_NUMERIC = range(6, 16)
_COMPLEX = 8  # flag
_DEEPEST = 50  # maximum nesting of arrays in cells and structs
_SLACK = 1 << 20  # number of elements that an array may claim in addition to its bytes

Element = tuple[int, memoryview]
"""Type and data."""


def check_mat5(content: bytes) -> None:
    """Check that all elements of a file are complete and all arrays are consistent.

    Args:
        content: content of a MATLAB v5 file.

    Raises:
        ValueError: they are not, arrays are nested too deeply, an array is a function or a user
            class, or compressed elements expand to more than `MAX_MAT_BYTES`.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or struct.unpack_from(f"{order}H", content, 124) != (0x0100,):
        raise ValueError("its version is not supported: save it as v5 (-v7) or v7.3")
    budget = MAX_MAT_BYTES
    for kind, body in _elements(memoryview(content)[128:], order):
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            inside = unpacker.decompress(body, budget)
            if unpacker.unconsumed_tail:
                raise ValueError(f"it unpacks to more than {MAX_MAT_BYTES} bytes")
            budget -= len(inside)
            for element in _elements(memoryview(inside), order):
                _check_array(element, order, 0)
        elif kind == _MATRIX:
            _check_array((kind, body), order, 0)


def _check_array(element: Element, order: str, depth: int) -> None:
    """Raise ValueError unless an element is a consistent array."""
    kind, body = element
    _require(kind == _MATRIX, f"an element of type {kind} is not an array")
    _require(depth <= _DEEPEST, f"its arrays are nested more than {_DEEPEST} deep")
    if not body:
        return  # an empty cell
    parts = _elements(body, order)
    flags = _next(parts, {_UINT32})
    dimensions = _next(parts, {_INT32})
    _next(parts, {_INT8})  # name
    _require(len(flags) == 8, "an array has no flags")
    _require(
        8 <= len(dimensions) <= 128 and not len(dimensions) % 4,
        f"an array has dimensions of {len(dimensions)} bytes",
    )
    sizes = [size for (size,) in struct.iter_unpack(f"{order}i", dimensions)]
    _require(min(sizes) >= 0, "an array has a negative size")
    (word,) = struct.unpack_from(f"{order}I", flags)
    of_class, is_complex, count = word & 0xFF, bool(word >> 8 & _COMPLEX), math.prod(sizes)
    if of_class != _SPARSE and count > len(body) + _SLACK:
        raise ValueError(f"an array claims {count} elements, but has {len(body)} bytes")
    if of_class in _NUMERIC or of_class == _SPARSE:
        for _ in range((3 if of_class == _SPARSE else 1) + is_complex):
            _next(parts, _NUMBERS)
    elif of_class == _CHAR:
        _next(parts, _TEXTS)
    elif of_class in (_CELL, _STRUCT, _OBJECT):
        arrays = count if of_class == _CELL else count * _fields(parts, of_class, order)
        for _ in range(arrays):
            _check_array((_MATRIX, _next(parts, {_MATRIX})), order, depth + 1)
    else:
        raise ValueError(f"an array is of class {of_class}: save numbers, text, cells and structs")
    _require(next(parts, None) is None, "an array has too many parts")


def _fields(parts: Iterator[Element], of_class: int, order: str) -> int:
    """Return the number of fields of a struct."""
    if of_class == _OBJECT:
        _next(parts, {_INT8})  # name of the class
    length = _next(parts, {_INT32})
    _require(len(length) == 4, "a struct has no length of names")
    (size,) = struct.unpack(f"{order}i", length)
    names = _next(parts, {_INT8})
    _require(size > 0 and not len(names) % size, f"a struct has names of {size} bytes")
    return len(names) // size


def _next(parts: Iterator[Element], kinds: set[int]) -> memoryview:
    """Return the data of the next element, which must be of one of those types."""
    kind, data = next(parts, (0, memoryview(b"")))
    _require(kind in kinds, f"an array has an element of type {kind} where others belong")
    return data


def _elements(data: memoryview, order: str) -> Iterator[Element]:
    """Yield the elements in a sequence of bytes."""
    at = 0
    while at < len(data):
        _require(len(data) - at >= 8, "an element is cut off")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start = at + 8
        if kind >> 16:  # a small element has size and type in one word, followed by the data
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            _require(size <= 4, f"a small element has {size} bytes")
        _require(start + size <= len(data), f"an element of {size} bytes is cut off")
        yield kind, data[start : start + size]
        at = start + size
        at += 0 if kind == _COMPRESSED else -at % 8


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)
