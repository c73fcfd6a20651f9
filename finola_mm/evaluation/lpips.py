"""LPIPS, the learned perceptual distance, where its package and its weights are on disk.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018), by
the authors' package ``lpips``, version 0.1 of the distance on AlexNet. The package brings the
weights of the distance; those of AlexNet come from torchvision. Nothing is downloaded here.
"""

import importlib
import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

ALEXNET = 'alexnet-owt-7be5be79.pth'  # torchvision's file name, as in AlexNet_Weights
INSTALL = 'python -m pip install lpips'
DOWNLOAD = 'python -c "import lpips; lpips.LPIPS(net=\'alex\')"'


class LPIPSUnavailable(RuntimeError):
    """LPIPS lacks its package or its weights; the message has the command that brings them."""


def load_lpips() -> nn.Module:
    """The distance on the CPU, as a function of two images; see ``lpips_distance``.

    Raises:
        LPIPSUnavailable: the package or AlexNet's weights are not on disk.
    """
    if importlib.util.find_spec('lpips') is None:
        raise LPIPSUnavailable(f'the package lpips is not installed. {INSTALL}, then {DOWNLOAD}')
    weights = Path(torch.hub.get_dir(), 'checkpoints', ALEXNET)
    if not weights.is_file():
        raise LPIPSUnavailable(f'there is no {weights}. With network access, {DOWNLOAD} brings it')
    return importlib.import_module('lpips').LPIPS(net='alex', verbose=False).eval()


@torch.no_grad()
def lpips_distance(model: nn.Module, pred: Tensor, target: Tensor) -> float:
    """LPIPS of one image, 0 where equal; pred, target (3, H, W), clamped to [0, 1]."""
    images = (2 * image[None].float().clamp(0, 1) - 1 for image in (pred, target))  # in [-1, 1]
    return model(*images).item()
