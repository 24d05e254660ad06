"""Frames of a scene: cast, shade, photograph, measure depth."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sgnet_core.data.rooms.pose import Pose
from sgnet_core.data.rooms.raycast import Solids, View, cast, rays
from sgnet_core.data.rooms.scene import Scene
from sgnet_core.data.rooms.sensor import measure_depth, photograph
from sgnet_core.data.rooms.shading import ShadowMap, hits_of, material_table, occlusion, radiance
from sgnet_core.data.sample import Sample
from sgnet_core.geometry.intrinsics import Intrinsics

_LIGHTS = 4  # the brightest; the others add cost more than light
_PIECE = 1 << 14  # pixels


class Stage:
    """A scene on a device, ready to be photographed any number of times."""

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
        """A frame.

        `rng` draws the light's and the sensors' character, `noise` what differs from frame to
        frame; frames of one sequence get equal `rng` states and different `noise`.
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
        """Light and emission (3, N), facing and dropout (N,) of all pixels."""
        open_sky = occlusion(depth, view)
        direction = view.rotation @ rays(view, depth.device)
        parts = []
        # On a CPU, pieces that stay in its cache.
        size = _PIECE if depth.device.type == "cpu" else len(depth)
        for at in range(0, len(depth), size):
            piece = slice(at, at + size)
            hits = hits_of(
                self.solids, view.position, direction[:, piece], depth[piece], index[piece]
            )
            rows = self._materials.index_select(1, index[piece])
            foot = hits.depth / view.camera.fx / hits.facing.clamp(min=0.15)
            light, emission = radiance(
                hits, view.position, foot, rows, self._lights, ambient, open_sky[piece], shadows
            )
            parts.append((light, emission, hits.facing, rows[18]))
        light, emission, facing, dropout = (torch.cat(p, -1) for p in zip(*parts, strict=True))
        return light, emission, facing, dropout
