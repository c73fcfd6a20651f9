"""A small model of two parts, and the metadata of a run that trained it."""

import torch
from mmengine.model import BaseModule
from torch import nn

from finola_mm import MobileFormer

META = dict(
    source='pretrain',
    encoder=dict(type='finola_mm.MobileFormer', arch='small'),
    iter=70,
    epoch=3,
    cfg='model = dict()',
    experiment_name='pretrain_20260102_030405',
)


class Whole(BaseModule):
    """A backbone and a layer with initializations that must not overwrite loaded weights."""

    def __init__(self, arch='small', backbone_init=None, init_cfg=None):
        super().__init__(init_cfg)
        self.backbone = MobileFormer(arch, init_cfg=backbone_init)
        self.neck = Layer(init_cfg=dict(type='Constant', layer='Linear', val=0.5))


class Layer(BaseModule):
    def __init__(self, init_cfg):
        super().__init__(init_cfg)
        self.linear = nn.Linear(3, 2)

    def init_weights(self):
        super().init_weights()
        nn.init.constant_(self.linear.bias, 0.25)


def randomized(module):
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5)
            elif key.endswith('num_batches_tracked'):
                tensor.fill_(7)
    return module
