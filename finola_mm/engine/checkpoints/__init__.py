"""Checkpoints: whole or not there, read without running what is in them, checked for fit."""

from .checkpoint_file import CheckpointError, read_checkpoint, write_weights
from .find_checkpoint import find_checkpoint, last_checkpoint
from .fit import Fit, compare, encoder_part, loaded, misfit
from .resumable import Resumable, check_resumable, check_run, find_resumable
from .run_record import run_record
from .weights import Pretrained, fill, find_tensors, load_weights
from .whole_file import NO_SPACE, remove_unfinished, write_whole

__all__ = [
    'CheckpointError',
    'Fit',
    'NO_SPACE',
    'Pretrained',
    'Resumable',
    'check_resumable',
    'check_run',
    'compare',
    'encoder_part',
    'fill',
    'find_checkpoint',
    'find_resumable',
    'find_tensors',
    'last_checkpoint',
    'load_weights',
    'loaded',
    'misfit',
    'read_checkpoint',
    'remove_unfinished',
    'run_record',
    'write_weights',
    'write_whole',
]
