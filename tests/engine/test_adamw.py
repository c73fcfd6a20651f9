"""``finola_mm.FusedAdamW`` is torch's AdamW, fused where torch can fuse it."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from finola_mm.functional import compat


@pytest.mark.parametrize('fusible', [True, False])
@pytest.mark.parametrize('paramwise', [None, dict(bias_decay_mult=0.0)])
def test_the_same_steps_as_torch(monkeypatch, fusible, paramwise):
    if not fusible:
        devices = torch.utils._foreach_utils
        monkeypatch.setattr(devices, '_get_fused_kernels_supported_devices', lambda: ['cuda'])
    weights = []
    for type_ in ('AdamW', 'finola_mm.FusedAdamW'):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = dict(type=type_, lr=0.1, weight_decay=0.1)
        if type_ == 'finola_mm.FusedAdamW':
            optimizer['fused'] = True
        wrapper = build_optim_wrapper(model, dict(optimizer=optimizer, paramwise_cfg=paramwise))
        for _ in range(3):
            wrapper.update_params(model(torch.ones(4, 3)).square().sum())
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    group = wrapper.optimizer.param_groups[0]
    assert bool(group['fused']) == (fusible and compat.fuses_adamw('cpu'))
    torch.testing.assert_close(*weights)
