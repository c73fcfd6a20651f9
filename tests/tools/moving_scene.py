"""A video of generated scenes, whose objects drift and turn.

python -m tests.tools.moving_scene OUT.mp4
"""

import sys

import cv2
import numpy as np

from finola_mm.datasets.shape_classes import load_photographs
from finola_mm.datasets.shapes import draw, multi_object_scene


def write_video(path, *, scenes=4, frames=24, size=(180, 240), fps=12.0, seed=0):
    """Write ``scenes`` * ``frames`` frames of ``size`` (height, width), as make_shapes.py draws."""
    rng = np.random.default_rng(seed)
    photographs = load_photographs('val')
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, size[::-1])
    for _ in range(scenes):
        scene = multi_object_scene(rng, size)
        steps = rng.uniform(-1.5, 1.5, (len(scene.objects), 2))  # pixels per frame
        turns = rng.uniform(-0.02, 0.02, len(scene.objects))  # radians per frame
        for frame in range(frames):
            moved = [
                obj._replace(
                    centre=tuple(obj.centre + frame * step), angle=obj.angle + frame * turn
                )
                for obj, step, turn in zip(scene.objects, steps, turns, strict=True)
            ]
            image = draw(scene._replace(objects=tuple(moved)), photographs).image
            writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()


if __name__ == '__main__':
    write_video(sys.argv[1])
