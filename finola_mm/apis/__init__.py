"""Functions that the tools share and users call."""

from .command_line import add_cfg_options, add_launcher, add_work_dir, command_line
from .config import CfgOptions, in_own_module, load_config, unknown_setting
from .cpu import optimize_for_cpu

__all__ = [
    'CfgOptions',
    'add_cfg_options',
    'add_launcher',
    'add_work_dir',
    'command_line',
    'in_own_module',
    'load_config',
    'optimize_for_cpu',
    'unknown_setting',
]
