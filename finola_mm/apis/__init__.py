"""Functions that the tools share and users call."""

from .config import CfgOptions, in_own_module, load_config, unknown_setting
from .cpu import optimize_for_cpu

__all__ = ['CfgOptions', 'in_own_module', 'load_config', 'optimize_for_cpu', 'unknown_setting']
