"""Render frames of a scene: ray casting, shading, and simulated cameras."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sgnet_core.data.rooms.pose import Pose
from sgnet_core.data.rooms.raycast import Solids, View, cast, rays
from sgnet_core.data.rooms.scene import Scene
from sgnet_core.data.rooms.sensor import measure_depth, photograph
from sgnet_core.data.rooms.shading import (
    ShadowMap,
    material_table,
    occlusion,
    radiance,
    surface_hits,
)
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics

_LIGHTS = 4  # number of lights that are used, the brightest ones
_PIECE = 1 << 14  # pixels shaded at a time on a CPU, so that they stay in its cache


class Renderer:
    """Renders any number of frames of a scene on a device."""

    def __init__(self, scene: Scene, device: torch.device) -> None:
        self.solids = Solids.of(scene, device)
        material = torch.as_tensor(np.concatenate([scene.material, scene.shell]), device=device)
        self._materials = material_table(scene.materials, device)[:, material]  # (19, P + 6)
        self._labels = torch.as_tensor(scene.labels.astype(np.uint8), device=device)
        self._lights = torch.as_tensor(scene.lights[:_LIGHTS], dtype=torch.float32, device=device)
        self._brightness = scene.lights[:_LIGHTS, 4].mean()
        self._shadows: list[ShadowMap] = []

    @torch.inference_mode()
    def render(
        self, pose: Pose, camera: Intrinsics, rng: np.random.Generator, noise: np.random.Generator
    ) -> Sample:
        """Render a frame.

        ``rng`` draws the light and the properties of the sensors, ``noise`` what differs between
        frames. Frames of a sequence get ``rng`` in the same state and different ``noise``.
        """
        device = self._labels.device
        view = pose.view(camera, device)
        depth, index = cast(self.solids, view)
        tone = np.exp(rng.normal(0, [0.08, 0.03, 0.1])) * rng.uniform(0.08, 0.5) * self._brightness
        ambient = torch.as_tensor(tone, dtype=torch.float32, device=device)
        shadows = self._shadow_maps(int(rng.choice([0, 1, 2], p=[0.1, 0.5, 0.4])))
        light, emission, facing, dropout = self._shade(view, depth, index, ambient, shadows)
        shape = (camera.height, camera.width)
        rgb = photograph(light, emission, *shape, rng, noise)
        exact = depth.view(shape)
        measured = measure_depth(
            exact, facing.view(shape), dropout.view(shape), camera.fx, rng, noise
        )
        return Sample(
            rgb=rgb.cpu().numpy(),
            depth=measured.cpu().numpy(),
            labels=self._labels[index].view(shape).cpu().numpy(),
            intrinsics=camera,
            depth_exact=exact.cpu().numpy(),
            up=pose.rotation[2].astype(np.float32),
            camera_height=float(pose.position[2]),
        )

    def _shadow_maps(self, count: int) -> list[ShadowMap]:
        for lamp in self._lights[len(self._shadows) : count]:
            self._shadows.append(ShadowMap(self.solids, lamp[:3]))
        return self._shadows[:count]

    def _shade(
        self, view: View, depth: Tensor, index: Tensor, ambient: Tensor, shadows: list[ShadowMap]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return light and emission (3, N), facing and dropout (N,) of all pixels."""
        openness = occlusion(depth, view)
        direction = view.rotation @ rays(view, depth.device)
        parts = []
        size = _PIECE if depth.device.type == "cpu" else len(depth)
        for at in range(0, len(depth), size):
            piece = slice(at, at + size)
            hits = surface_hits(
                self.solids, view.position, direction[:, piece], depth[piece], index[piece]
            )
            rows = self._materials.index_select(1, index[piece])
            footprint = hits.depth / view.camera.fx / hits.facing.clamp(min=0.15)
            light, emission = radiance(
                hits,
                view.position,
                footprint,
                rows,
                self._lights,
                ambient,
                openness[piece],
                shadows,
            )
            parts.append((light, emission, hits.facing, rows[18]))
        light, emission, facing, dropout = (torch.cat(p, -1) for p in zip(*parts, strict=True))
        return light, emission, facing, dropout
