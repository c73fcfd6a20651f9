"""Public functions, and shared helpers for the command-line tools."""

from .command_line import (
    add_cfg_options,
    add_config_and_checkpoint,
    add_run_options,
    check_out,
    command_line,
    int_range,
    make_folder,
    progress,
    write_csv,
)
from .config import CfgOptions, load_config, use_own_coco_metric
from .cpu import optimize_for_cpu
from .encoder import Encoder, load_encoder
from .features import extract_features
from .publishing import convert_official, extract_encoder, publish_model

__all__ = [
    'CfgOptions',
    'Encoder',
    'add_cfg_options',
    'add_config_and_checkpoint',
    'add_run_options',
    'check_out',
    'command_line',
    'convert_official',
    'extract_encoder',
    'extract_features',
    'int_range',
    'load_config',
    'load_encoder',
    'make_folder',
    'optimize_for_cpu',
    'progress',
    'publish_model',
    'use_own_coco_metric',
    'write_csv',
]
