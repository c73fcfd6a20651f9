"""Draw the position of the visible block, which "floats around the image randomly" (Section 3)."""

import numpy as np
from mmcv.transforms import BaseTransform

from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomBlock(BaseTransform):
    """Draw the offset of a visible block, by default half as high and wide as the image.

    The image is not changed; the model crops it. All positions on the patch grid are equally
    likely: 81 for a quarter of a 256 x 256 image.
    The draws come from ``numpy.random``, which ``SeededDataset`` seeds.

    **Required keys:** img. **Added keys:** block_offset, (row, col) in patches.

    Args:
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        block_size (tuple[int, int], optional): (h, w) of the block in patches, as in the model.
            Defaults to half the image's height and width.
    """

    def __init__(self, patch_size: int = 16, *, block_size: tuple[int, int] | None = None):
        self.patch_size = patch_size
        self.block_size = block_size

    def transform(self, results: dict) -> dict:
        height, width = (size // self.patch_size for size in results['img'].shape[:2])
        h, w = self.block_size or (height // 2, width // 2)
        if h > height or w > width:
            raise ValueError(
                f'block_size {(h, w)} exceeds the image of {height} x {width} patches of '
                f'{self.patch_size} pixels; use a smaller block_size or a larger image'
            )
        results['block_offset'] = tuple(np.random.randint(n + 1) for n in (height - h, width - w))
        return results
