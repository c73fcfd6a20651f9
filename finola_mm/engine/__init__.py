"""Training runs on MMEngine: checkpoints, exact resume, hooks."""

from ..errors import CheckpointError
from .adamw import FusedAdamW
from .bfloat16_optim_wrapper import BFloat16OptimWrapper, computes_bfloat16
from .checkpoints.checkpoint_file import (
    NO_SPACE,
    atomic_write,
    checkpoint_metadata,
    read_checkpoint,
    register_checkpoint_io,
    write_weights,
)
from .checkpoints.resume_point import (
    ResumePoint,
    check_resumable,
    find_checkpoint,
    find_latest_valid_checkpoint,
    find_resume_point,
)
from .checkpoints.state_dict_match import Pretrained, format_other_classes, load_weights
from .distributed import init_dist
from .exact_resume import ExactEpochLoop, SeedIterationHook
from .hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from .hooks.bad_samples_hook import BadSamplesHook
from .hooks.compile_hook import CompileHook
from .hooks.finite_loss_hook import FiniteLossHook
from .hooks.interruption_hook import InterruptedRun, InterruptionHook
from .hooks.runtime_info_hook import RuntimeInfoHook
from .hooks.strict_load_hook import StrictLoadHook, StrictResumeHook
from .hooks.sync_buffers_hook import SyncBuffersHook
from .model import unwrap_model
from .param_groups import merge_param_groups
from .runner import Runner, set_memory_format
from .workers import SIGNALS

__all__ = [
    'FusedAdamW',
    'AtomicCheckpointHook',
    'BFloat16OptimWrapper',
    'BadSamplesHook',
    'CheckpointError',
    'CompileHook',
    'ExactEpochLoop',
    'FiniteLossHook',
    'InterruptedRun',
    'InterruptionHook',
    'NO_SPACE',
    'Pretrained',
    'ResumePoint',
    'Runner',
    'RuntimeInfoHook',
    'SIGNALS',
    'SeedIterationHook',
    'StrictLoadHook',
    'StrictResumeHook',
    'SyncBuffersHook',
    'atomic_write',
    'check_resumable',
    'checkpoint_metadata',
    'computes_bfloat16',
    'find_checkpoint',
    'find_latest_valid_checkpoint',
    'find_resume_point',
    'format_other_classes',
    'init_dist',
    'load_weights',
    'merge_param_groups',
    'read_checkpoint',
    'register_checkpoint_io',
    'set_memory_format',
    'unwrap_model',
    'write_weights',
]
