"""The kinds of config that the null GPU runs.

Configs that differ only in width, channels or the share of labelled data launch the same kernels.
One of them represents its kind.
"""

import re
from collections import defaultdict
from pathlib import Path

from mmengine.config import Config

CONFIGS = Path(__file__).parents[2] / 'configs'
FOLDERS = ('selfsup', 'selfsup/ablations', 'classification', 'det')
# The null GPU cannot run these.
LEFT_OUT = {
    'det/dino_mf': "requires mmcv's CUDA operators",
    'det/retinanet_mf': "requires mmcv's CUDA operators",
}


def kinds() -> list[str]:
    """Return a config of each kind, the narrowest, as a path below configs/ without suffix."""
    families = defaultdict(list)
    for folder in FOLDERS:
        for path in sorted((CONFIGS / folder).glob('*.py')):
            name = f'{folder}/{path.stem}'
            families[re.sub(r'_[wc]\d+(?=_|$)', '', name)].append(name)
    return [next((n for n in names if '_w720' in n), names[0]) for names in families.values()]


def load_config(kind: str) -> Config:
    """Load the config of a kind and the parts of the package that it names."""
    return Config.fromfile(CONFIGS / f'{kind}.py')
