"""One frame of a scene: cast, shade, photograph, measure depth."""

from __future__ import annotations

import numpy as np
import torch

from sgnet_core.camera import Intrinsics
from sgnet_core.data.rooms.classes import CEILING, FLOOR, WALL
from sgnet_core.data.rooms.pose import Pose
from sgnet_core.data.rooms.raycast import Solids, View, cast
from sgnet_core.data.rooms.scene import Scene
from sgnet_core.data.rooms.sensor import measure_depth, photograph
from sgnet_core.data.rooms.shading import hits_of, material_table, radiance
from sgnet_core.data.sample import Sample


def view_of(pose: Pose, camera: Intrinsics, device: torch.device) -> View:
    """Upload a pose and its intrinsics."""
    return View(
        torch.as_tensor(pose.rotation, dtype=torch.float32, device=device),
        torch.as_tensor(pose.position, dtype=torch.float32, device=device),
        camera.fx,
        camera.fy,
        camera.cx,
        camera.cy,
        camera.width,
        camera.height,
    )


@torch.inference_mode()
def render(
    scene: Scene,
    pose: Pose,
    camera: Intrinsics,
    device: torch.device,
    rng: np.random.Generator,
    noise: np.random.Generator,
) -> Sample:
    """Render a frame.

    `rng` draws the light's and the sensors' character, `noise` what differs from frame to frame;
    frames of one sequence get equal `rng` states and different `noise`.
    """
    solids = Solids.of(scene, device)
    view = view_of(pose, camera, device)
    depth, index = cast(solids, view)
    hits = hits_of(solids, view, depth, index)
    material = torch.as_tensor(np.concatenate([scene.material, scene.shell]), device=device)
    label = np.concatenate([scene.label, [WALL] * 4 + [FLOOR, CEILING]]).astype(np.uint8)
    rows = material_table(scene.materials, device)[:, material[index]]
    lights = torch.as_tensor(scene.lights[:4], dtype=torch.float32, device=device)
    tone = (
        np.exp(rng.normal(0, [0.08, 0.03, 0.1]))
        * rng.uniform(0.08, 0.5)
        * scene.lights[:4, 4].mean()
    )
    ambient = torch.as_tensor(tone, dtype=torch.float32, device=device)
    shadows = int(rng.choice([0, 1, 2], p=[0.1, 0.5, 0.4]))
    light, emission = radiance(solids, hits, view, rows, lights, ambient, shadows)
    shape = (camera.height, camera.width)
    rgb = photograph(light, emission, *shape, rng, noise)
    exact = depth.view(shape)
    measured = measure_depth(
        exact, hits.facing.view(shape), rows[18].view(shape), camera.fx, rng, noise
    )
    return Sample(
        rgb=rgb.cpu().numpy(),
        depth=measured.cpu().numpy(),
        labels=torch.as_tensor(label, device=device)[index].view(shape).cpu().numpy(),
        intrinsics=camera,
        depth_exact=exact.cpu().numpy(),
        up=pose.rotation[2].astype(np.float32),
        camera_height=float(pose.position[2]),
    )
