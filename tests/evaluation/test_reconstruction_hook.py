"""The layout and the pixels of the pictures of reconstructions."""

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from finola_mm.evaluation import draw_reconstructions
from finola_mm.evaluation.reconstruction_hook import GAP, LABEL_WIDTH

SIZE = 8


def test_rows_and_columns():
    mask = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    mask[:, :4, :4] = False  # the top left is visible
    sample = BaseDataElement(
        original=torch.full((3, SIZE, SIZE), 0.2),
        reconstruction=torch.full((3, SIZE, SIZE), 1.7),  # out of range: clamped
        mask=mask,
    )
    picture = draw_reconstructions([sample, sample])
    x = LABEL_WIDTH + GAP + SIZE + GAP  # the second column
    assert picture.shape == (4 * SIZE + 3 * GAP, LABEL_WIDTH + 2 * (SIZE + GAP), 3)
    rows = [picture[y : y + SIZE, x : x + SIZE] for y in range(0, 4 * (SIZE + GAP), SIZE + GAP)]
    original, visible, prediction, composed = rows
    assert (original == 51).all() and (prediction == 255).all()
    masked = mask[0].numpy()
    assert (visible[~masked] == 51).all() and (visible[masked] == 128).all()
    assert (composed[~masked] == 51).all() and (composed[masked] == 255).all()
    assert picture.dtype == np.uint8


def test_whole_images_have_two_rows():
    sample = BaseDataElement(
        original=torch.full((3, SIZE, SIZE), 0.2),
        reconstruction=torch.full((3, SIZE, SIZE), 0.6),
        mask=torch.ones(1, SIZE, SIZE, dtype=torch.bool),
    )
    picture = draw_reconstructions([sample])
    assert picture.shape[0] == 2 * SIZE + GAP
    column = picture[:, LABEL_WIDTH + GAP :]
    assert (column[:SIZE] == 51).all() and (column[SIZE + GAP :] == 153).all()
