"""Where the visible block lies: it "floats around the image randomly" (Section 3)."""

import numpy as np
from mmcv.transforms import BaseTransform

from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomBlock(BaseTransform):
    """Draw the offset of a visible block of half the image's height and width.

    All (h+1) * (w+1) places on the grid of patches are equally likely, the edges too: 81 for a
    256 x 256 image. Drawn from ``numpy.random``, which ``SeededDataset`` seeds.

    **Required keys:** img. **Added keys:** block_offset, (row, col) in patches.

    Args:
        patch_size (int): Side of a patch in pixels. Defaults to 16.
    """

    def __init__(self, patch_size: int = 16):
        self.patch_size = patch_size

    def transform(self, results: dict) -> dict:
        height, width = results['img'].shape[:2]
        h, w = height // (2 * self.patch_size), width // (2 * self.patch_size)
        results['block_offset'] = (np.random.randint(h + 1), np.random.randint(w + 1))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(patch_size={self.patch_size})'
