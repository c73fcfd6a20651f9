"""hubconf.py through torch.hub, from the checkout."""

import pytest
import torch

from finola_mm import MobileFormer
from finola_mm.datasets.shapes import NAMES
from tests.conftest import ROOT


def load(name, *args, **options):
    return torch.hub.load(str(ROOT), name, *args, source='local', **options)


def test_entry_points():
    encoder = load('encoder', 'masked_finola_b_shapes')
    assert encoder(torch.zeros(1, 3, 64, 64))[-1].shape == (1, 256, 4, 4)
    assert isinstance(load('mobile_former', 'small', out_indices=(2,)), MobileFormer)


def test_detector():
    pytest.importorskip('mmdet')
    assert load('detector', 'det_mf_dec211_shapes').classes == tuple(NAMES)
