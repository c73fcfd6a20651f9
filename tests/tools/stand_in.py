"""A linear stand-in for whole-image FINOLA: encoder and decoder share one matrix."""

import torch
from mmengine.model import BaseModel
from mmpretrain.models import SelfSupDataPreprocessor
from torch import nn

from finola_mm.layers import FINOLALayer

SIDE = 16
CONFIG = f"""
default_scope = 'mmpretrain'
model = dict(type='tests.tools.stand_in.LinearFINOLA', channels=12)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale={SIDE}),
    dict(type='CenterCrop', crop_size={SIDE}),
    dict(type='PackInputs', meta_keys=('img_path',)),
]
test_dataloader = dict(dataset=dict(type='CustomDataset', pipeline=test_pipeline))
"""


class Neck(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.finola = FINOLALayer(channels)

    def latent_to_map(self, q):
        return self.finola(q, (6, 6))


class LinearFINOLA(BaseModel):
    """q = W x, image = W^T q, with orthonormal rows: the nearest image in a space of C dimensions.

    The first three rows are plain red, green and blue.
    """

    def __init__(self, channels):
        preprocessor = SelfSupDataPreprocessor(mean=[127.5] * 3, std=[255.0] * 3, to_rgb=True)
        super().__init__(preprocessor)
        self.neck = Neck(channels)
        rows = torch.randn(channels, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        rows[:3] = torch.eye(3)[:, :, None, None]
        self.weight = nn.Parameter(torch.linalg.qr(rows.flatten(1).T).Q.T)  # (C, 3 * SIDE * SIDE)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        raise NotImplementedError

    def encode(self, images):
        return (images.flatten(1) @ self.weight.T)[:, None]  # (N, 1, C)

    def decode(self, q):
        return (q.flatten(1) @ self.weight).view(-1, 3, SIDE, SIDE)

    def to_pixels(self, images):
        return images + 0.5
