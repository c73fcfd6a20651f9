"""The registries of this project: children of MMEngine's, all in the scope ``finola_mm``.

``type='finola_mm.MobileFormer'`` can be built from these registries and, through the common root,
from those of mmpretrain and mmdet. A registry imports its locations at the first lookup. They do
not include the algorithms, which require mmpretrain or mmdet: a config that uses them lists
``finola_mm.selfsup`` in its ``custom_imports``.
"""

from mmengine import registry as root
from mmengine.registry import Registry


def _child(name: str, *packages: str) -> Registry:
    """Create a child of MMEngine's registry ``name`` that imports ``packages`` when it is used."""
    parent = getattr(root, name)
    locations = [f'finola_mm.{package}' for package in packages]
    return Registry(parent.name, parent=parent, scope='finola_mm', locations=locations)


MODELS = _child('MODELS', 'backbones', 'necks', 'heads')

DATASETS = _child('DATASETS', 'datasets')
DATA_SAMPLERS = _child('DATA_SAMPLERS', 'datasets')
FUNCTIONS = _child('FUNCTIONS', 'datasets')
TRANSFORMS = _child('TRANSFORMS', 'datasets')

METRICS = _child('METRICS', 'evaluation')

HOOKS = _child('HOOKS', 'engine', 'evaluation')
LOOPS = _child('LOOPS', 'engine')
OPTIMIZERS = _child('OPTIMIZERS', 'engine')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS', 'engine')
VISUALIZERS = _child('VISUALIZERS', 'engine')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS', 'engine')

# Without components of our own. MMEngine warns if a component of `finola_mm::...` finds none.
for name in ('LOG_PROCESSORS', 'PARAM_SCHEDULERS', 'TASK_UTILS', 'VISBACKENDS'):
    _child(name)
