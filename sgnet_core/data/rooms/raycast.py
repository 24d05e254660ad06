"""Cast the rays of a pinhole camera to the primitives of a scene, for all pixels at once.

The unit shape of each primitive is bounded by the cube [-1, 1]^3. The silhouette of the cube in the
image gives the pixels of each row whose rays can hit. Only these (primitive, pixel) pairs are
tested, in one batch per kind of primitive, and a depth buffer keeps the nearest hits.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from sgnet_core.data.rooms.scene import BOX, ELLIPSOID, FRUSTUM, Scene
from sgnet_core.geometry.intrinsics import Intrinsics

NEAR = 0.05
_FAR = 1e6
_EPS = 1e-6

_CORNERS = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)))
_EDGES = torch.tensor(
    [(a, b) for a, b in itertools.combinations(range(8), 2) if bin(a ^ b).count("1") == 1]
)


@dataclass(frozen=True)
class Solids:
    """Geometry of a scene with P primitives, as tensors on one device."""

    size: Tensor  # (3,)
    kind: Tensor  # (P,)
    center: Tensor  # (P, 3)
    to_unit: Tensor  # (P, 3, 3) world offset -> unit coordinates
    axes: Tensor  # (P, 3, 3) unit coordinates -> world offset
    half: Tensor  # (P, 3)
    taper: Tensor  # (P,)

    @staticmethod
    def of(scene: Scene, device: torch.device) -> Solids:
        """Copy a scene to a device."""

        def tensor(array: object, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.as_tensor(array, dtype=dtype).to(device)

        transposed = scene.rotation.swapaxes(1, 2)
        return Solids(
            size=tensor(scene.size),
            kind=tensor(scene.kind, torch.int64),
            center=tensor(scene.center),
            to_unit=tensor(transposed / scene.half[:, :, None]),
            axes=tensor(scene.rotation * scene.half[:, None, :]),
            half=tensor(scene.half),
            taper=tensor(scene.taper),
        )


@dataclass(frozen=True)
class View:
    """A pinhole camera; ``rotation`` (3, 3) maps its optical frame to the world."""

    rotation: Tensor
    position: Tensor  # (3,)
    camera: Intrinsics


def cast(solids: Solids, view: View) -> tuple[Tensor, Tensor]:
    """Return depth (H*W,) along the optical axis, and int64 indices (H*W,) of the hit primitives.

    Indices P..P+5 are the faces of the room: x=0, x=W, y=0, y=L, floor, ceiling.
    """
    depth, index = _cast_shell(solids, view)
    count = len(solids.kind)
    if count == 0:
        return depth, index
    to_unit = solids.to_unit @ view.rotation  # camera direction -> unit coordinates
    origin = torch.einsum("pij,pj->pi", solids.to_unit, view.position - solids.center)
    corners = (_CORNERS.to(depth.device) @ solids.axes.transpose(1, 2)) + solids.center[:, None]
    corners = (corners - view.position) @ view.rotation  # (P, 8, 3) camera frame
    prim, row, first, length = _spans(corners, view)
    if len(prim) == 0:
        return depth, index
    y = (row.float() - view.camera.cy) / view.camera.fy
    lines = to_unit[prim, :, 1] * y[:, None] + to_unit[prim, :, 2]  # (R, 3)
    table = torch.cat([lines, to_unit[prim, :, 0], origin[prim]], 1)  # (R, 9)
    kind = solids.kind[prim]
    hits = []
    for which, intersect in ((BOX, _box), (ELLIPSOID, _ellipsoid), (FRUSTUM, _frustum)):
        rows = torch.nonzero(kind == which)[:, 0]
        if len(rows) == 0:
            continue
        counts = length[rows]
        pair = torch.repeat_interleave(counts)  # (N,) row of each pair
        start = first[rows] - (torch.cumsum(counts, 0) - counts)
        column = torch.arange(len(pair), device=pair.device) + start.index_select(0, pair)
        values = table[rows].t().contiguous().index_select(1, pair)  # (9, N)
        x = (column.float() - view.camera.cx) / view.camera.fx
        direction = torch.addcmul(values[:3], values[3:6], x)
        taper = (solids.taper[prim[rows]].index_select(0, pair),) if which == FRUSTUM else ()
        t = intersect(values[6:], direction, *taper)
        pixel = row[rows].index_select(0, pair) * view.camera.width + column
        keep = torch.nonzero(t < depth.index_select(0, pixel))[:, 0]
        hits.append((pixel[keep], t[keep], prim[rows][pair[keep]]))
    pixel, t, who = (torch.cat(part) for part in zip(*hits, strict=True))
    depth.scatter_reduce_(0, pixel, t, "amin")
    won = torch.nonzero(t <= depth.index_select(0, pixel))[:, 0]
    nearest = torch.full_like(index, -1)
    nearest.scatter_reduce_(0, pixel[won], who[won], "amax")
    return depth, torch.where(nearest >= 0, nearest, index)


def rays(view: View, device: torch.device) -> Tensor:
    """Return the (3, H*W) directions of all pixels in the camera frame, with z = 1."""
    u = (torch.arange(view.camera.width, device=device) - view.camera.cx) / view.camera.fx
    v = (torch.arange(view.camera.height, device=device) - view.camera.cy) / view.camera.fy
    x = u.repeat(view.camera.height)
    y = v.repeat_interleave(view.camera.width)
    return torch.stack([x, y, torch.ones_like(x)])


def _cast_shell(solids: Solids, view: View) -> tuple[Tensor, Tensor]:
    """Return depth and index of the faces of the room that are seen from inside."""
    direction = view.rotation @ rays(view, solids.size.device)  # (3, N)
    direction = direction + 1e-12
    ahead = direction > 0
    plane = torch.where(ahead, solids.size[:, None], 0.0)
    t, axis = ((plane - view.position[:, None]) / direction).min(0)
    side = ahead.gather(0, axis[None])[0]
    return t, len(solids.kind) + axis * 2 + side


def _spans(corners: Tensor, view: View) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the spans of the silhouettes: primitive, row, first column, length, each (R,)."""
    device = corners.device
    z = corners[..., 2]
    edges = _EDGES.to(device)
    a, b = corners[:, edges[:, 0]], corners[:, edges[:, 1]]  # (P, 12, 3)
    za, zb = a[..., 2], b[..., 2]
    crosses = (za > NEAR) != (zb > NEAR)
    mix = (NEAR - za) / torch.where(crosses, zb - za, 1.0)
    cut = a + mix[..., None] * (b - a)
    points = torch.cat([corners, cut], 1)
    valid = torch.cat([z > NEAR, crosses], 1)  # (P, 20)
    depth = points[..., 2].clamp(min=NEAR * 0.5)
    u = points[..., 0] / depth * view.camera.fx + view.camera.cx
    v = points[..., 1] / depth * view.camera.fy + view.camera.cy
    low, high = torch.where(valid, v, 1e9).amin(1), torch.where(valid, v, -1e9).amax(1)
    left, right = torch.where(valid, u, 1e9).amin(1), torch.where(valid, u, -1e9).amax(1)
    top = low.clamp(-1, view.camera.height).floor().clamp(min=0).long()
    bottom = high.clamp(-1, view.camera.height).ceil().clamp(max=view.camera.height - 1).long()
    seen = (right >= 0) & (left <= view.camera.width - 1) & valid.any(1)
    counts = torch.where(seen, bottom - top + 1, 0).clamp(min=0)
    prim = torch.repeat_interleave(counts)
    row = torch.arange(len(prim), device=device)
    row = row + (top - (torch.cumsum(counts, 0) - counts))[prim]
    # A span begins and ends where edges cross the center line of the row. A cube clipped by the
    # near plane has more edges there, so it takes its whole bounding rectangle.
    whole = crosses.any(1)
    ua, ub, va, vb = u[:, edges[:, 0]], u[:, edges[:, 1]], v[:, edges[:, 0]], v[:, edges[:, 1]]
    slope = (ub - ua) / torch.where((vb - va).abs() < 1e-6, 1.0, vb - va)
    line = row[:, None].float()
    va, vb = va[prim], vb[prim]
    inside = (torch.minimum(va, vb) - 0.01 <= line) & (line <= torch.maximum(va, vb) + 0.01)
    at = ua[prim] + (line - va) * slope[prim]
    at = torch.minimum(torch.maximum(at, left[prim, None]), right[prim, None])
    flat = (vb - va).abs() < 0.02  # a horizontal edge contributes both ends
    near = torch.where(flat, torch.minimum(ua, ub)[prim], at)
    far = torch.where(flat, torch.maximum(ua, ub)[prim], at)
    begin = torch.where(whole[prim], left[prim], torch.where(inside, near, 1e9).amin(1))
    end = torch.where(whole[prim], right[prim], torch.where(inside, far, -1e9).amax(1))
    begin = (begin - 0.02).clamp(-1, view.camera.width).ceil().clamp(min=0).long()
    end = (end + 0.02).clamp(-1, view.camera.width).floor().clamp(max=view.camera.width - 1).long()
    length = end - begin + 1
    keep = torch.nonzero(length > 0)[:, 0]
    return prim[keep], row[keep], begin[keep], length[keep]


def _box(origin: Tensor, direction: Tensor) -> Tensor:
    """Return the (N,) entry distances into [-1, 1]^3; `_FAR` without a hit."""
    inverse = 1.0 / (direction + 1e-12)
    middle, reach = -origin * inverse, inverse.abs()
    near, far = middle - reach, middle + reach
    enter = torch.maximum(torch.maximum(near[0], near[1]), near[2])
    leave = torch.minimum(torch.minimum(far[0], far[1]), far[2])
    return torch.where((enter <= leave) & (enter > NEAR), enter, _FAR)


def _ellipsoid(origin: Tensor, direction: Tensor) -> Tensor:
    """Return the (N,) entry distances into the unit sphere; `_FAR` without a hit."""
    a = (direction * direction).sum(0)
    b = (origin * direction).sum(0)
    c = (origin * origin).sum(0) - 1
    root = b * b - a * c
    t = (-b - root.clamp(min=0).sqrt()) / a
    return torch.where((root >= 0) & (t > NEAR), t, _FAR)


def _frustum(origin: Tensor, direction: Tensor, taper: Tensor) -> Tensor:
    """Return the (N,) entry distances into frustums of radius 1 at z=-1 and ``taper`` at z=1."""
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    beta = (taper - 1) / 2
    radius = 1 + beta * (oz + 1)
    a = dx * dx + dy * dy - (beta * dz) ** 2
    a = torch.where(a.abs() < _EPS, _EPS, a)
    b = ox * dx + oy * dy - beta * radius * dz
    c = ox * ox + oy * oy - radius * radius
    root = b * b - a * c
    spread = root.clamp(min=0).sqrt()
    best = torch.full_like(a, _FAR)
    for sign in (-1.0, 1.0):
        t = (-b + sign * spread) / a
        z = oz + t * dz
        good = (root >= 0) & (t > NEAR) & (z.abs() <= 1)
        best = torch.where(good & (t < best), t, best)
        t = (sign - oz) / torch.where(dz.abs() < _EPS, _EPS, dz)
        x, y = ox + t * dx, oy + t * dy
        cap = 1.0 if sign < 0 else taper
        good = (x * x + y * y <= cap * cap) & (t > NEAR)
        best = torch.where(good & (t < best), t, best)
    return best
