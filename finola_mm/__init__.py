"""FINOLA and masked FINOLA (arXiv 2305.16319) on MMEngine, mmpretrain and mmdet.

Importing this package does not import torch: attributes are loaded on first access.
``finola_mm.functional`` and ``finola_mm.layers`` depend only on torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .environment import require_supported

if TYPE_CHECKING:
    from .apis import extract_features, load_encoder
    from .apis.detection import load_detector
    from .apis.pretraining import pretrain
    from .backbones import MobileFormer

__version__ = '0.1.0'

__all__ = [
    'MobileFormer',
    '__version__',
    'extract_features',
    'load_detector',
    'load_encoder',
    'pretrain',
]

# Public name -> its module
PLACES = dict(
    MobileFormer='backbones',
    extract_features='apis',
    load_detector='apis.detection',
    load_encoder='apis',
    pretrain='apis.pretraining',
)

require_supported()

# Lets `_base_ = 'finola_mm::…'` and `get_config('finola_mm::…')` find the .mim folder of this
# package. MMEngine has no public API for this table; importing it does not import torch.
try:
    from mmengine.config.utils import MODULE2PACKAGE
except ImportError:
    pass
else:
    MODULE2PACKAGE['finola_mm'] = 'finola_mm'
    # onedl-mmsegmentation's configs, too, not only those of the distribution mmsegmentation
    MODULE2PACKAGE['mmseg'] = 'mmseg'


def __getattr__(name: str):
    if name in PLACES:
        return getattr(import_module(f'.{PLACES[name]}', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
