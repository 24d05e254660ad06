"""Shade surface points: normals, texture coordinates, lights, shadows, occlusion, gloss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sgnet_core.data.rooms.materials import Material
from sgnet_core.data.rooms.raycast import Solids, View, cast
from sgnet_core.data.rooms.scene import BOX, FRUSTUM
from sgnet_core.data.rooms.textures import albedo, noise
from sgnet_core.geometry.intrinsics import Intrinsics

_SHADOW_SIZE = 144
_SHADOW_FOCAL = 0.42  # in widths of the map, for a field of view of 100 degrees


@dataclass(frozen=True)
class Hits:
    """Surface points that N pixels see."""

    depth: Tensor  # (N,) meters along the axis
    index: Tensor  # (N,) primitives and faces of the room, as from `cast`
    point: Tensor  # (3, N) world
    normal: Tensor  # (3, N) world, toward the camera
    facing: Tensor  # (N,) cosine between the normal and the ray to the camera
    u: Tensor  # (N,) meters along the surface
    v: Tensor  # (N,) meters across it
    unit: Tensor  # (2, N) the same in [-1, 1]


def unit_length(vectors: Tensor) -> Tensor:
    """Scale (3, N) vectors to length 1."""
    x, y, z = vectors
    return vectors * torch.rsqrt(x * x + y * y + z * z + 1e-20)


def _one_hot(axis: Tensor) -> Tensor:
    """Return (3, N) unit vectors along axes 0..2."""
    return torch.stack([axis == 0, axis == 1, axis == 2]).float()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the (N,) dot products of (3, N) vectors."""
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def surface_hits(
    solids: Solids, eye: Tensor, direction: Tensor, depth: Tensor, index: Tensor
) -> Hits:
    """Compute points, normals and texture coordinates from the result of `cast`.

    Args:
        solids: the geometry.
        eye: (3,) world position of the camera.
        direction: (3, N) world directions of length 1 along the optical axis.
        depth, index: (N,) as from `cast`.
    """
    point = direction * depth + eye[:, None]
    count = len(solids.kind)
    shell = (index - count).clamp(min=0)
    inner = index >= count
    safe = index.clamp(max=count - 1)
    # A (9, N) table with contiguous rows is much faster than batched 3x3 products.
    to_unit = solids.to_unit.reshape(-1, 9).t().contiguous().index_select(1, safe)
    offset = point - solids.center.t().contiguous().index_select(1, safe)
    local = torch.stack([_dot(to_unit[3 * i : 3 * i + 3], offset) for i in range(3)])
    kind = solids.kind.index_select(0, safe)
    # Normal in unit coordinates: the dominant axis of a box, the gradient of the others.
    x, y, z = local.abs()
    axis = torch.where(z >= torch.maximum(x, y), 2, (y >= x).long())
    face = _one_hot(axis) * local.sign()
    normal = torch.where(kind == BOX, face, local)
    taper = solids.taper.index_select(0, safe)
    radius = (local[0] * local[0] + local[1] * local[1]).sqrt()
    cap = (local[2].abs() > 0.998) & (radius < 0.999 * (1 + (taper - 1) * (local[2] > 0)))
    slope = (1 - taper) * 0.5 * radius
    side = torch.stack([local[0], local[1], slope])
    lid = torch.stack([torch.zeros_like(slope), torch.zeros_like(slope), local[2].sign()])
    normal = torch.where(kind == FRUSTUM, torch.where(cap, lid, side), normal)
    normal = torch.stack([_dot(to_unit[i::3], normal) for i in range(3)])
    wall_axis = shell // 2
    inward = _one_hot(wall_axis) * (1 - 2.0 * (shell % 2))
    normal = unit_length(torch.where(inner, inward, normal))
    u, v, unit = _surface(solids, safe, local, kind, axis, cap, inner, point, wall_axis)
    facing = -_dot(normal, unit_length(direction))
    return Hits(depth, index, point, normal, facing, u, v, unit)


def _surface(
    solids: Solids,
    safe: Tensor,
    local: Tensor,
    kind: Tensor,
    axis: Tensor,
    cap: Tensor,
    inner: Tensor,
    point: Tensor,
    wall_axis: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute texture coordinates; u runs along the longest side of the face."""
    half = solids.half.t().contiguous().index_select(1, safe)
    metric = torch.where(inner, point, local * half)
    unit = torch.where(inner, point / solids.size[:, None] * 2 - 1, local)
    extent = torch.where(inner, solids.size[:, None].expand_as(half), half)
    axis = torch.where(inner, wall_axis, torch.where((kind == FRUSTUM) & cap, 2, axis))
    first, second = (axis == 0).long(), torch.where(axis == 2, 1, 2)
    swap = (extent.gather(0, second[None]) > extent.gather(0, first[None]))[0]
    # Pictures and views stand upright, so the second coordinate stays the vertical one.
    upright = torch.stack([unit.gather(0, first[None])[0], unit.gather(0, second[None])[0]])
    a, b = metric.gather(0, first[None])[0], metric.gather(0, second[None])[0]
    round_side = ~inner & (kind == FRUSTUM) & ~cap
    around = torch.atan2(local[1], local[0]) * half[0]
    a, b = torch.where(round_side, around, a), torch.where(round_side, metric[2], b)
    swap = swap & ~round_side
    # Each primitive and face shows another part of the pattern.
    shift = (safe * 7919 % 1021).float() * 0.37 + axis * 1.7
    shift = torch.where(inner, axis * 5.3, shift)
    return torch.where(swap, b, a) + shift, torch.where(swap, a, b) + shift, upright


def material_table(materials: list[Material], device: torch.device) -> Tensor:
    """Return the rows of all materials, (19, M)."""
    return torch.tensor([m.row() for m in materials], device=device).t().contiguous()


class ShadowMap:
    """Shadows of one light, from a depth map seen downwards from the light."""

    def __init__(self, solids: Solids, position: Tensor) -> None:
        self._position = position
        self._down = torch.tensor(
            [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]], device=position.device
        )
        size, focal, middle = _SHADOW_SIZE, _SHADOW_FOCAL * _SHADOW_SIZE, (_SHADOW_SIZE - 1) / 2
        view = View(self._down, position, Intrinsics(focal, focal, middle, middle, size, size))
        self._depth, _ = cast(solids, view)

    def visibility(self, point: Tensor) -> Tensor:
        """Return the share of the light, (N,) in [0, 1], that reaches world points (3, N)."""
        size, focal, middle = _SHADOW_SIZE, _SHADOW_FOCAL * _SHADOW_SIZE, (_SHADOW_SIZE - 1) / 2
        local = self._down.t() @ (point - self._position[:, None])
        z = local[2].clamp(min=0.05)
        u, v = local[0] / z * focal + middle, local[1] / z * focal + middle
        inside = (local[2] > 0.05) & (u > 1) & (u < size - 2) & (v > 1) & (v < size - 2)
        u0, v0 = u.clamp(0, size - 2), v.clamp(0, size - 2)
        i, j = u0.floor().long(), v0.floor().long()
        fu, fv = u0 - i, v0 - j
        # The tolerance grows with the size of a texel, for slanted surfaces.
        reach = z * 0.985 - 0.02 - z / focal * 1.5
        texel = j * size + i
        a, b, c, d = (
            (self._depth.index_select(0, texel + step) > reach).float()
            for step in (0, 1, size, size + 1)
        )
        return torch.where(inside, torch.lerp(torch.lerp(a, b, fu), torch.lerp(c, d, fu), fv), 1.0)


def radiance(
    hits: Hits,
    eye: Tensor,
    footprint: Tensor,
    rows: Tensor,
    lights: Tensor,
    ambient: Tensor,
    openness: Tensor,
    shadows: list[ShadowMap],
) -> tuple[Tensor, Tensor]:
    """Return the linear light (3, N) from the surfaces, and their emission (3, N).

    Args:
        hits: the surface points.
        eye: (3,) world position of the camera.
        footprint: (N,) meters of surface that a pixel covers.
        rows: (19, N) material row of each pixel.
        lights: (L, 6) position and RGB intensity.
        ambient: (3,) RGB.
        openness: (N,) from `occlusion`.
        shadows: shadow maps of the first lights.
    """
    color = albedo(rows, rows[0].long(), hits.u, hits.v, hits.unit, footprint)
    up = hits.normal[2]
    light = ambient[:, None] * (0.8 + 0.2 * up) * openness
    to_eye = unit_length(eye[:, None] - hits.point)
    shine = torch.zeros_like(color)
    for i, lamp in enumerate(lights):
        to_light = lamp[:3, None] - hits.point
        distance2 = _dot(to_light, to_light)
        to_light = to_light * torch.rsqrt(distance2)
        cosine = _dot(hits.normal, to_light).clamp(min=0)
        fall = 1.0 / (distance2 + 0.4)
        if i < len(shadows):
            fall = fall * shadows[i].visibility(hits.point)
        light = light + lamp[3:, None] * (cosine * fall)
        middle = unit_length(to_light + to_eye)
        peak = _dot(hits.normal, middle).clamp(0, 1) ** rows[16]
        shine = shine + lamp[3:, None] * (peak * fall * (cosine > 0))
    # A glossy surface reflects a blurred room that is bright above and dark below, with noise.
    mirror = 2 * hits.facing * hits.normal - to_eye
    room = (0.45 + 0.4 * mirror[2]) * (
        0.4 + 1.2 * noise(mirror[0] * 1.3 + 4, mirror[1] * 1.3 + mirror[2])
    )
    fresnel = rows[15] * (0.08 + 0.8 * (1 - hits.facing.clamp(0, 1)) ** 4)
    shine = shine * rows[15] * 0.6 + fresnel * room * ambient[:, None] * 1.5
    return color * light + shine, color * rows[17]


def occlusion(depth: Tensor, view: View) -> Tensor:
    """Return ambient occlusion, (N,) in (0, 1], lower for pixels behind their surroundings."""
    z = depth.view(1, 1, view.camera.height, view.camera.width)
    out = torch.ones_like(z)
    for share, strength in ((0.02, 0.5), (0.07, 0.45)):
        k = max(1, round(share * view.camera.width))
        small = F.avg_pool2d(z, k, k, ceil_mode=True, count_include_pad=False)
        small = F.avg_pool2d(small, 3, 1, 1, count_include_pad=False)
        mean = F.interpolate(small, size=z.shape[2:], mode="bilinear", align_corners=False)
        # Surfaces much nearer to the camera do not occlude.
        gap = (z - mean).clamp(min=0)
        out = out * (1 - strength * (gap / 0.12).clamp(max=1) * (1 - gap / 0.9).clamp(min=0))
    return out.view(-1)
