"""What the tools share and users call."""

from .config import CfgOptions, in_own_module, load_config, unknown_setting

__all__ = ['CfgOptions', 'in_own_module', 'load_config', 'unknown_setting']
