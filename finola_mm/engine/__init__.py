"""Training runs on MMEngine: checkpoints, exact resume, hooks."""

from ..errors import CheckpointError
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
from .checkpoints.state_dict_match import Pretrained, load_weights
from .exact_resume import ExactEpochLoop, SeedIterationHook
from .freed_memory import keep_freed_memory
from .fsdp_strategy import ResumableFSDPStrategy, check_sharded
from .hooks import (
    SIGNALS,
    AtomicCheckpointHook,
    BadSamplesHook,
    CompileHook,
    DataTimeHook,
    EvaluationDataError,
    FiniteLossHook,
    InterruptedRun,
    InterruptionHook,
    NonFiniteLossError,
    StrictLoadHook,
    StrictResumeHook,
    SyncBuffersHook,
)
from .processes import LaunchError, Processes, first_speaks

__all__ = [
    'BFloat16OptimWrapper',
    'BadSamplesHook',
    'CheckpointError',
    'CompileHook',
    'DataTimeHook',
    'EvaluationDataError',
    'ExactEpochLoop',
    'FiniteLossHook',
    'InterruptedRun',
    'InterruptionHook',
    'LaunchError',
    'NO_SPACE',
    'NonFiniteLossError',
    'Pretrained',
    'Processes',
    'ResumePoint',
    'ResumableFSDPStrategy',
    'SIGNALS',
    'SeedIterationHook',
    'StrictLoadHook',
    'StrictResumeHook',
    'SyncBuffersHook',
    'AtomicCheckpointHook',
    'check_resumable',
    'check_sharded',
    'computes_bfloat16',
    'find_checkpoint',
    'find_latest_valid_checkpoint',
    'find_resume_point',
    'first_speaks',
    'keep_freed_memory',
    'load_weights',
    'read_checkpoint',
    'register_checkpoint_io',
    'checkpoint_metadata',
    'write_weights',
    'atomic_write',
]
