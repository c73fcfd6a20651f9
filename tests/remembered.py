"""What MMEngine works out anew for every config and every run, kept for a process and its forks.

To read the host packages' indexes, to lay out a config's text and to ask for the versions of what
is installed takes a second for each run, and gives the same each time. Here it is asked for once.
"""

import functools

from mmengine.config import Config, utils
from mmengine.runner import runner
from yapf.yapflib import yapf_api


def remember(module, name: str) -> None:
    """Have the function of this name keep its results."""
    function, results = getattr(module, name), {}

    @functools.wraps(function)
    def remembered(*args, **kwargs):
        call = args, repr(kwargs)
        if call not in results:
            results[call] = function(*args, **kwargs)
        return results[call]

    setattr(module, name, remembered)


remember(utils, 'load')  # an index, by its path
remember(yapf_api, 'FormatCode')  # a config, by its text
remember(runner, 'collect_env')

runner.collect_env()
for host in ('mmpretrain', 'mmdet'):
    Config._get_cfg_path(f'{host}::_base_/default_runtime.py', '')
