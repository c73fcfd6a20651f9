"""The project's registries: children of mmengine's, all in the scope ``finola_mm``.

``type='finola_mm.MobileFormer'`` builds from these and, through the common root, from mmpretrain's
and mmdet's. A registry imports its locations at the first look-up. They are the parts of floor 2
only: the algorithms need one of the two host packages, so a config that uses them names
``finola_mm.selfsup`` in its ``custom_imports``.
"""

from mmengine import registry as root
from mmengine.registry import Registry


def _child(name: str, *packages: str) -> Registry:
    """A registry under mmengine's one of the same ``name``."""
    parent = getattr(root, name)
    locations = [f'finola_mm.{package}' for package in packages]
    return Registry(parent.name, parent=parent, scope='finola_mm', locations=locations)


MODELS = _child('MODELS', 'backbones', 'necks', 'heads')

DATASETS = _child('DATASETS', 'datasets')
DATA_SAMPLERS = _child('DATA_SAMPLERS', 'datasets')
TRANSFORMS = _child('TRANSFORMS', 'datasets')

METRICS = _child('METRICS', 'evaluation')

HOOKS = _child('HOOKS', 'engine', 'evaluation')
LOOPS = _child('LOOPS', 'engine')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS', 'engine')
VISUALIZERS = _child('VISUALIZERS', 'engine')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS', 'engine')
