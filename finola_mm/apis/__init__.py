"""Functions that the tools share and users call."""

from .command_line import add_cfg_options, add_launcher, add_work_dir, command_line
from .config import CfgOptions, in_own_module, load_config, unknown_setting
from .cpu import optimize_for_cpu
from .encoder import extract_encoder, load_encoder, publish_model

__all__ = [
    'CfgOptions',
    'add_cfg_options',
    'add_launcher',
    'add_work_dir',
    'command_line',
    'extract_encoder',
    'in_own_module',
    'load_config',
    'load_encoder',
    'optimize_for_cpu',
    'publish_model',
    'unknown_setting',
]
