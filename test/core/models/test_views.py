from __future__ import annotations

import pytest

from sgnet_core.models.views import input_size


@pytest.mark.parametrize(
    ("image", "input_height", "size"),
    [
        ((480, 640), 336, (336, 448)),
        ((720, 1280), 240, (240, 416)),  # 426.7 columns
        ((480, 848), 240, (240, 416)),  # 424 columns
        ((240, 320), 336, (336, 448)),
        ((100, 200), 20, (20, 32)),  # 40 columns
        ((100, 20), 40, (40, 8)),  # narrower than half a step: the nearest column
        ((100, 1), 20, (20, 1)),
        ((37, 51), None, (37, 51)),
    ],
)
def test_resized_inputs_are_multiples_of_the_last_stride_wide(
    image: tuple[int, int], input_height: int | None, size: tuple[int, int]
) -> None:
    assert input_size(*image, input_height) == size


def test_a_strip_that_would_be_enlarged_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match=r"20000x1 image is too .* input would have 9600000x480"):
        input_size(1, 20_000, 480)
