"""BlockFINOLANeck: it unrolls the last map."""

import pytest
import torch

from finola_mm.necks import BlockFINOLANeck
from tests.messages import shows


@pytest.mark.parametrize('steps', ['block', 'element'])
def test_neck_unrolls_the_last_map(steps):
    neck = BlockFINOLANeck(8, steps=steps)
    early, last = torch.randn(2, 4, 8, 8), torch.randn(2, 8, 2, 3)
    offset = torch.tensor([[0, 0], [2, 1]])
    z = neck((early, last), offset)
    assert z.shape == (2, 8, 4, 6)
    assert torch.equal(z, neck.finola.blockwise(last, offset, steps))


def test_neck_refuses_an_unknown_word():
    with pytest.raises(ValueError, match=shows('steps', 'patch')):
        BlockFINOLANeck(8, steps='patch')
