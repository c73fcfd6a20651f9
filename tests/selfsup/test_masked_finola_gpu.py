"""One step on a CUDA device, in bfloat16 and float16, close to the same step on the CPU."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope

from finola_mm.registry import MODELS
from tests.selfsup.test_masked_finola import SIZE, config, samples

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_a_step_under_autocast(dtype):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(config()).train()
    images = torch.randn(4, 3, SIZE, SIZE)
    expected = copy.deepcopy(model).loss(images, samples())['loss']
    model = model.cuda()
    with torch.autocast('cuda', dtype):
        loss = model.loss(images.cuda(), samples())['loss']
    loss.backward()
    assert loss.dtype == torch.float32
    # The masked error of an untrained model is about 1; bfloat16 keeps 8 bits of it.
    assert abs(loss.item() - expected.item()) < 2 * 2**-8
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
