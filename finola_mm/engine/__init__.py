"""What MMEngine lacks for our runs."""

from .batch_check import check_batch
from .bfloat16_optim_wrapper import BFloat16OptimWrapper
from .config import find_checkpoint, load_config
from .data_check import IMAGE_SUFFIXES, MissingDataError, check_data
from .reconstruction_hook import ReconstructionHook, draw_reconstructions

__all__ = [
    'BFloat16OptimWrapper',
    'IMAGE_SUFFIXES',
    'MissingDataError',
    'ReconstructionHook',
    'check_batch',
    'check_data',
    'draw_reconstructions',
    'find_checkpoint',
    'load_config',
]
