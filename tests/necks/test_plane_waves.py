import torch

from finola_mm.functional import plane_waves
from finola_mm.registry import MODELS


def test_the_matrices_of_a_neck_are_replaced():
    init = dict(type='finola_mm.PlaneWaves', max_frequency=2.0, std=3.0, seed=4)
    neck = MODELS.build(dict(type='FINOLANeck', in_channels=8, channels=8, init_cfg=init))
    pooling = {name: tensor.clone() for name, tensor in neck.pooling.state_dict().items()}
    neck.init_weights()
    expected = plane_waves(8, 2.0, 3.0, torch.Generator().manual_seed(4))
    for name, matrix in expected.items():
        assert torch.equal(neck.finola.get_parameter(name), matrix.float())
    for name, tensor in neck.pooling.state_dict().items():
        assert torch.equal(tensor, pooling[name])
