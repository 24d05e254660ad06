"""Simulate a color camera and a structured-light depth camera."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def photograph(
    light: Tensor,
    emission: Tensor,
    height: int,
    width: int,
    rng: np.random.Generator,
    noise: np.random.Generator,
) -> Tensor:
    """Return the (H, W, 3) uint8 image of linear light and emission, (3, H*W) each.

    ``rng`` draws the properties of the camera, ``noise`` what differs between frames.
    """
    device = light.device
    mean = light.mean(0).clamp(max=light.mean() * 4).mean()
    image = light * (rng.uniform(0.16, 0.38) / mean.clamp(min=1e-6)) + emission
    balance = torch.tensor(np.exp(rng.normal(0, 0.06, (3, 1))), dtype=torch.float32, device=device)
    image = (image * balance).view(1, 3, height, width)
    if rng.random() < 0.7:
        image = image * _vignette(height, width, rng, device)
    shoulder = rng.uniform(0.0, 0.6)  # compresses highlights instead of clipping them
    image = image * (1 + shoulder) / (1 + shoulder * image)
    image = image.clamp(0, 1) ** rng.uniform(0.42, 0.55)
    image = _soften(image, rng.uniform(0.04, 0.24), noise)
    if rng.random() < 0.5:  # chroma subsampling, as in JPEG and YUV cameras
        luma = image.mean(1, keepdim=True)
        chroma = F.avg_pool2d(image - luma, 2, ceil_mode=True)
        chroma = F.interpolate(chroma, size=(height, width), mode="bilinear", align_corners=False)
        image = luma + chroma
    contrast = rng.uniform(0.85, 1.25)
    image = (image - 0.5) * contrast + 0.5 + rng.normal(0, 0.03)
    saturation = rng.uniform(0.7, 1.3)
    gray = image.mean(1, keepdim=True)
    image = gray + (image - gray) * saturation
    sigma = float(np.exp(rng.uniform(np.log(0.003), np.log(0.03))))
    grain = noise.standard_normal((3, height, width), dtype=np.float32)
    image = image + torch.from_numpy(grain).to(device) * sigma
    return (image[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def _vignette(height: int, width: int, rng: np.random.Generator, device: torch.device) -> Tensor:
    y = torch.linspace(-1, 1, height, device=device)[:, None]
    x = torch.linspace(-1, 1, width, device=device)[None]
    return 1 - rng.uniform(0.0, 0.25) * (x * x + y * y)


def _soften(image: Tensor, side: float, noise: np.random.Generator) -> Tensor:
    """Blur with the weight ``side`` for each neighbor; at times, add motion blur."""
    image = F.pad(image, (1, 1, 1, 1), mode="replicate")
    # Sums of shifted images are several times faster than a depthwise convolution.
    image = image[:, :, 1:-1] * (1 - 2 * side) + (image[:, :, :-2] + image[:, :, 2:]) * side
    image = image[..., 1:-1] * (1 - 2 * side) + (image[..., :-2] + image[..., 2:]) * side
    if noise.random() < 0.15:
        dx, dy = (int(k) for k in noise.integers(-2, 3, 2))
        moved = torch.roll(image, (dy, dx), (2, 3))
        half = torch.roll(image, (dy // 2, dx // 2), (2, 3))
        image = (image + moved + half) / 3
    return image


def measure_depth(
    depth: Tensor,
    facing: Tensor,
    dropout: Tensor,
    fx: float,
    rng: np.random.Generator,
    noise: np.random.Generator,
) -> Tensor:
    """Return the (H, W) meters that a structured-light camera reports; 0 = no measurement.

    Args:
        depth: (H, W) exact meters along the optical axis.
        facing: (H, W) cosine between the surface normal and the ray.
        dropout: (H, W) `Material.dropout`, 0..1.
        fx: focal length, pixels.
        rng: draws the properties of the sensor.
        noise: draws what differs between frames.
    """
    height, width = depth.shape
    device = depth.device
    clean = rng.random() < 0.15  # a modern sensor, or filled depth
    out = depth
    if not clean:
        out = _jitter_edges(out, noise)
    sigma = rng.uniform(0.0, 0.0006) if clean else rng.uniform(0.0008, 0.003)
    fine = torch.from_numpy(noise.standard_normal((height, width), dtype=np.float32)).to(device)
    coarse = _blobs(height, width, noise, device, 5)
    mix = rng.uniform(0, 1)
    out = out + sigma * out * out * (fine * mix + coarse * (1 - mix))
    if not clean and rng.random() < 0.8:
        step = rng.uniform(0.0008, 0.0030)  # disparity step / (baseline * focal length), 1/m
        out = step**-1 * (1 / out.clamp(min=0.05))
        out = 1 / (out.round().clamp(min=1) * step)
    low = rng.uniform(0.25, 0.55)
    high = rng.uniform(3.5, 9.0) if rng.random() < 0.5 else 12.0
    hole = (depth < low) | (depth > high)
    ragged = 0.3 * _blobs(height, width, noise, device, 3)
    ragged = ragged + 0.7 * _blobs(height, width, noise, device, 24)
    scale = 0.3 if clean else 1.0
    hole |= facing + 0.06 * ragged < rng.uniform(0.05, 0.22) * scale
    hole |= (dropout > 0) & (0.5 + 0.35 * ragged < dropout * rng.uniform(0.3, 1.1) * scale)
    if not clean:
        hole |= _shadow_strip(depth, fx * rng.uniform(0.01, 0.06), rng.random() < 0.8)
        if rng.random() < 0.35:
            hole |= _blobs(height, width, noise, device, 9) > rng.uniform(2.3, 3.3)
        if rng.random() < 0.3:  # registration to the color camera leaves a margin
            margin = int(rng.integers(1, 9))
            hole[:, -margin:] = True
    return torch.where(hole, 0.0, out).clamp(min=0)


def _blobs(
    height: int, width: int, rng: np.random.Generator, device: torch.device, cell: int
) -> Tensor:
    """Return (H, W) smooth noise with features of ``cell`` pixels and a deviation of about 1."""
    h, w = height // cell + 2, width // cell + 2
    grid = torch.from_numpy(rng.standard_normal((1, 1, h, w), dtype=np.float32)).to(device)
    full = F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=False)
    return full[0, 0] * 1.4  # interpolation reduces the deviation


def _jitter_edges(depth: Tensor, rng: np.random.Generator) -> Tensor:
    """Make silhouettes ragged: half of the pixels take the value of a neighbor."""
    height, width = depth.shape
    pick = torch.from_numpy(rng.integers(0, 8, (height, width), dtype=np.int8)).to(depth.device)
    out = torch.where(pick == 0, torch.roll(depth, 1, 1), depth)
    out = torch.where(pick == 1, torch.roll(depth, -1, 1), out)
    out = torch.where(pick == 2, torch.roll(depth, 1, 0), out)
    out = torch.where(pick == 3, torch.roll(depth, -1, 0), out)
    border = torch.zeros_like(depth, dtype=torch.bool)
    border[0], border[-1], border[:, 0], border[:, -1] = True, True, True, True
    return torch.where(border, depth, out)


def _shadow_strip(depth: Tensor, reach: float, from_left: bool) -> Tensor:
    """Return a mask of pixels next to nearer surfaces, which the projector cannot reach."""
    inverse = 1 / depth.clamp(min=0.2)
    hidden = torch.zeros_like(depth, dtype=torch.bool)
    for k in range(1, 9):
        near, far = (
            (inverse[:, :-k], inverse[:, k:]) if from_left else (inverse[:, k:], inverse[:, :-k])
        )
        lost = (near - far) * reach > k
        if from_left:
            hidden[:, k:] |= lost
        else:
            hidden[:, :-k] |= lost
    return hidden
