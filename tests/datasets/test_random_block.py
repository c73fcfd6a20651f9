from collections import Counter

import numpy as np
import pytest

from finola_mm.datasets import RandomBlock, SampleKey, seeded
from tests.messages import shows


def test_all_81_offsets_are_equally_likely():
    transform, image = RandomBlock(16), np.zeros((256, 256, 3), np.uint8)
    draws = 81 * 100
    counts = Counter()
    for index in range(draws):
        with seeded(SampleKey(0, 0, index)):
            counts[transform(dict(img=image))['block_offset']] += 1
    assert set(counts) == {(row, col) for row in range(9) for col in range(9)}
    # Chi-square with 80 degrees of freedom: mean 80, deviation sqrt(160); 5 deviations.
    chi2 = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert chi2 < 80 + 5 * 160**0.5


def test_non_square_images():
    image = np.zeros((64, 128, 3), np.uint8)
    offsets = {RandomBlock(16)(dict(img=image))['block_offset'] for _ in range(600)}
    assert offsets == {(row, col) for row in range(3) for col in range(5)}


def test_a_block_of_another_size():
    image = np.zeros((64, 128, 3), np.uint8)
    transform = RandomBlock(16, block_size=(3, 1))
    offsets = {transform(dict(img=image))['block_offset'] for _ in range(600)}
    assert offsets == {(row, col) for row in range(2) for col in range(8)}
    assert {RandomBlock(16, block_size=(4, 8))(dict(img=image))['block_offset']} == {(0, 0)}


def test_a_block_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=shows('block_size', '(5, 2)', '4 x 8')):
        RandomBlock(16, block_size=(5, 2))(dict(img=np.zeros((64, 128, 3), np.uint8)))
