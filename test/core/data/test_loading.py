"""Batches depend on seed and position, not on workers or on where a run was interrupted."""

from __future__ import annotations

import multiprocessing

import cv2
import numpy as np
import pytest
import torch

from sgnet_core.data.datasets.frame_files import DatasetError
from sgnet_core.data.loading import ENDLESS, Batch, collate, shuffled_positions, training_batches
from sgnet_core.data.sample import Sample
from sgnet_core.data.transforms import Augmentation
from sgnet_core.geometry.intrinsics import Intrinsics

AUGMENTATION = Augmentation(scale=(0.7, 1.5), flip=0.5, color=0.3, blur=0.3, depth_dropout=0.1)


class Damaged:
    """One sample that raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        raise self.error


class Numbered:
    """Samples that can be told apart: sample i has the label i everywhere."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        return Sample(
            rng.integers(0, 256, (12, 16, 3), np.uint8),
            rng.uniform(1, 5, (12, 16)).astype(np.float32),
            np.full((12, 16), index, np.uint8),
            Intrinsics(10 + index, 20 + index, 7.5, 5.5, 16, 12),
        )


def batches(first: int, last: int, workers: int = 0, seed: int = 3, length: int = 7):
    loader = training_batches(
        Numbered(length),
        AUGMENTATION,
        size=(10, 14),
        batch=3,
        seed=seed,
        first=first,
        last=last,
        workers=workers,
    )
    return [{k: v.clone() for k, v in vars(batch).items()} for batch in loader]


def assert_equal(a: list[dict], b: list[dict]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        for name in ("rgb", "depth", "labels", "intrinsics"):
            assert torch.equal(x[name], y[name]), name


def test_the_number_of_workers_changes_nothing() -> None:
    alone = batches(0, 6)
    assert_equal(alone, batches(0, 6, workers=1))
    assert_equal(alone, batches(0, 6, workers=2))


class ThreadCounts(Numbered):
    """Samples whose depth is the number of threads that OpenCV may use."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        sample.depth[:] = cv2.getNumThreads()
        return sample


def test_opencv_keeps_to_one_thread_in_each_worker() -> None:
    plain = Augmentation(scale=(1, 1))
    options = {"size": (12, 16), "batch": 1, "seed": 0, "first": 0, "last": 1, "workers": 1}
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        [batch] = training_batches(ThreadCounts(1), plain, **options)
    finally:
        cv2.setNumThreads(before)
    assert batch.depth.unique().tolist() == [1]


def test_a_resumed_run_sees_what_an_unbroken_one_sees() -> None:
    # 7 samples, batches of 3: the break lies in the middle of an epoch.
    assert_equal(batches(0, 9)[4:], batches(4, 9))


def test_processes_and_parts_share_each_batch_in_order() -> None:
    def loader(**share: int):
        return training_batches(
            Numbered(7),
            AUGMENTATION,
            size=(10, 14),
            batch=12,
            seed=3,
            first=1,
            last=4,
            workers=0,
            **share,
        )

    whole = list(loader())
    shares = [list(loader(parts=2, rank=rank, processes=3)) for rank in range(3)]
    assert [len(share) for share in shares] == [6, 6, 6]
    for number, batch in enumerate(whole):
        parts = [part for share in shares for part in share[2 * number : 2 * number + 2]]
        assert all(len(part.rgb) == 2 for part in parts)
        for name, value in vars(Batch.joined(parts)).items():
            assert torch.equal(value, getattr(batch, name)), name


def test_a_batch_that_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch 3 .* 2 processes x 1 parts: .* multiple of 2"):
        training_batches(
            Numbered(7),
            AUGMENTATION,
            size=(10, 14),
            batch=3,
            seed=0,
            first=0,
            last=1,
            workers=0,
            processes=2,
        )


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (DatasetError("a.png is truncated"), DatasetError, r"^a\.png is truncated$"),
        (OSError(5, "Input/output error", "b.png"), DatasetError, r"Input/output error: 'b.png'$"),
        (KeyError("a mistake in the program"), KeyError, "a mistake"),
    ],
)
def test_a_sample_that_cannot_be_read_is_an_error_that_leaves_no_worker_behind(
    workers: int, error: Exception, kind: type[Exception], message: str
) -> None:
    batches = training_batches(
        Damaged(error), AUGMENTATION, size=(8, 8), batch=1, seed=0, first=0, last=9, workers=workers
    )
    with pytest.raises(kind, match=message) as raised:
        next(batches)
    assert multiprocessing.active_children() == [], f"while {raised.value!r} is still looked at"


def test_workers_end_with_the_batches() -> None:
    samples, options = Numbered(7), {"size": (10, 14), "batch": 1, "seed": 0, "first": 0}
    batches = training_batches(samples, AUGMENTATION, **options, last=100, workers=1)  # type: ignore[arg-type]
    next(batches)
    assert len(multiprocessing.active_children()) == 1
    batches.close()
    assert multiprocessing.active_children() == []


def test_another_seed_gives_other_batches() -> None:
    a, b = batches(0, 3, seed=1), batches(0, 3, seed=2)
    assert any(not torch.equal(x["rgb"], y["rgb"]) for x, y in zip(a, b, strict=True))


def test_every_epoch_shows_every_sample_once_in_another_order() -> None:
    pairs = list(shuffled_positions(10, seed=0, start=0, stop=30))
    assert [position for position, _ in pairs] == list(range(30))
    epochs = [[index for _, index in pairs[e * 10 : e * 10 + 10]] for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != list(range(10))
    assert list(shuffled_positions(10, seed=0, start=13, stop=30)) == pairs[13:]


def test_a_sample_seen_again_is_augmented_anew() -> None:
    first, second = (batches(e, e + 1, length=3)[0] for e in (0, 1))
    for index in range(3):
        a, b = (
            next(i for i in range(3) if (s["labels"][i] == index).any()) for s in (first, second)
        )
        assert not torch.equal(first["rgb"][a], second["rgb"][b])


def test_an_endless_set_is_read_in_order() -> None:
    assert list(shuffled_positions(ENDLESS, 0, 5, 8)) == [(5, 5), (6, 6), (7, 7)]


def test_collate_stacks_values_in_their_types() -> None:
    samples = [Numbered(9)[4], Numbered(9)[8]]
    batch = collate(samples)
    assert batch.rgb.shape == (2, 3, 12, 16) and batch.rgb.dtype == torch.uint8
    assert batch.depth.shape == (2, 1, 12, 16) and batch.depth.dtype == torch.float32
    assert batch.labels.shape == (2, 12, 16) and batch.labels.dtype == torch.int64
    for i, sample in enumerate(samples):
        np.testing.assert_array_equal(batch.rgb[i].permute(1, 2, 0).numpy(), sample.rgb)
        np.testing.assert_array_equal(batch.depth[i, 0].numpy(), sample.depth)
        np.testing.assert_array_equal(batch.labels[i].numpy(), sample.labels)
    assert batch.intrinsics.tolist() == [[14, 24, 7.5, 5.5], [18, 28, 7.5, 5.5]]
    assert batch.to(torch.device("cpu")).rgb.equal(batch.rgb)


def test_collate_refuses_frames_of_different_sizes() -> None:
    big = Numbered(2)[0]
    small = Augmentation()(big, (6, 8), np.random.default_rng(0))
    with pytest.raises(ValueError, match="same shape"):
        collate([big, small])
