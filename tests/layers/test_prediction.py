"""When a layer may take the short way of a prediction on a CPU."""

import pytest
import torch
from torch import nn

from finola_mm.layers import predicts_on_cpu


class Asks(nn.Module):
    def forward(self, x):
        return x + 1 if predicts_on_cpu(x) else x


@pytest.mark.parametrize('context', [torch.no_grad, torch.inference_mode])
def test_without_gradients(context):
    x = torch.zeros(1)
    assert not predicts_on_cpu(x)
    with context():
        assert predicts_on_cpu(x) and not predicts_on_cpu(x.to('meta'))


@torch.no_grad()
def test_a_graph_holds_the_plain_operators():
    x = torch.zeros(2)
    assert torch.equal(torch.jit.trace(Asks(), x)(x), x)
    assert torch.equal(torch.export.export(Asks(), (x,)).module()(x), x)
