"""RVL depth: what a plain encoder writes is read back exactly; what does not fit is refused."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgnet_ros.messages.images import ImageError
from sgnet_ros.messages.rvl import decode_rvl


def encode(depth: npt.NDArray[np.uint16]) -> bytes:
    """Encode pixel by pixel."""
    nibbles: list[int] = []

    def number(value: int) -> None:
        while True:
            low, value = value & 7, value >> 3
            nibbles.append(low | (8 if value else 0))
            if not value:
                return

    pixels, at, previous = depth.ravel().tolist(), 0, 0
    while at < len(pixels):
        zeros = at
        while at < len(pixels) and pixels[at] == 0:
            at += 1
        number(at - zeros)
        end = at
        while end < len(pixels) and pixels[end] != 0:
            end += 1
        number(end - at)
        for value in pixels[at:end]:
            delta, previous = value - previous, value
            number((delta << 1) ^ (delta >> 31))
        at = end
    nibbles += [0] * (-len(nibbles) % 8)
    words = [
        sum(nibble << (28 - 4 * i) for i, nibble in enumerate(nibbles[at : at + 8]))
        for at in range(0, len(nibbles), 8)
    ]
    return struct.pack("<II", *depth.shape[::-1]) + struct.pack(f"<{len(words)}I", *words)


@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    holes=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_image_is_read_back_exactly(shape: tuple[int, int], holes: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.integers(1, 65536, shape).astype(np.uint16)
    depth[rng.random(shape) < holes] = 0
    np.testing.assert_array_equal(decode_rvl(encode(depth)), depth)


def test_hostile_data_are_refused() -> None:
    whole = encode(np.arange(1, 401, dtype=np.uint16).reshape(20, 20))
    for data, words in (
        (b"", "0 bytes are too few for an RVL image"),
        (struct.pack("<II", 1 << 31, 1 << 31), "at most 67108864 pixels"),
        (struct.pack("<II", 0, 5), "RVL image of 0x5"),
        (whole[:40], "do not fit an image of 20x20"),
        (struct.pack("<II", 5, 5) + bytes(40), "do not fit"),
        (struct.pack("<II", 5, 5) + b"\xff" * 40, "end after 0 of 25"),
        (struct.pack("<II", 5, 5) + b"\xff" * 40 + bytes(4), "more than 32 bits"),
    ):
        with pytest.raises(ImageError, match=words):
            decode_rvl(data)


def test_mutated_bytes_are_refused_or_give_an_image() -> None:
    rng = np.random.default_rng(0)
    depth = rng.integers(0, 3, (20, 20)).astype(np.uint16) * 1000
    whole = np.frombuffer(encode(depth), np.uint8)
    for _ in range(500):
        data = whole.copy()
        data[rng.integers(8, whole.size, 3)] = rng.integers(0, 256, 3)
        try:
            assert decode_rvl(data.tobytes()).shape == (20, 20)
        except ImageError as error:
            assert "RVL" in str(error)


def test_bytes_after_the_image_are_ignored() -> None:
    depth = np.array([[1, 65535], [0, 7]], np.uint16)
    whole = encode(depth)
    whole += bytes(4 * depth.size + 64) + b"\xff" * 4000  # as a number it would be refused
    np.testing.assert_array_equal(decode_rvl(whole), depth)
