"""Checkpoints: whole or not there, read without running what is in them, checked for fit."""

from .atomic_file import NO_SPACE, atomic_write, remove_stale_tmp
from .checkpoint_file import CheckpointError, read_checkpoint, write_weights
from .checkpoint_metadata import checkpoint_metadata
from .find_checkpoint import find_checkpoint, last_checkpoint
from .register_io import register_checkpoint_io
from .resume_point import (
    ResumePoint,
    check_resumable,
    find_latest_valid_checkpoint,
    validate_training_checkpoint,
)
from .state_dict_match import StateDictMatch, compare, encoder_part, format_loaded, format_mismatch
from .weights import Pretrained, find_tensors, load_matched, load_weights

__all__ = [
    'CheckpointError',
    'StateDictMatch',
    'NO_SPACE',
    'Pretrained',
    'ResumePoint',
    'check_resumable',
    'validate_training_checkpoint',
    'compare',
    'encoder_part',
    'load_matched',
    'find_checkpoint',
    'find_latest_valid_checkpoint',
    'find_tensors',
    'last_checkpoint',
    'load_weights',
    'format_loaded',
    'format_mismatch',
    'read_checkpoint',
    'register_checkpoint_io',
    'remove_stale_tmp',
    'checkpoint_metadata',
    'write_weights',
    'atomic_write',
]
