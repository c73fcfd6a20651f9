"""Hooks: checkpoints, resume, signals, non-finite losses, unreadable and slow data."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .bad_samples_hook import BadSamplesHook
from .compile_hook import CompileHook
from .data_time_hook import DataTimeHook
from .finite_loss_hook import FiniteLossHook
from .interruption_hook import SIGNALS, InterruptedRun, InterruptionHook
from .strict_load_hook import StrictLoadHook, StrictResumeHook
from .sync_buffers_hook import SyncBuffersHook

__all__ = [
    'BadSamplesHook',
    'CompileHook',
    'DataTimeHook',
    'FiniteLossHook',
    'InterruptedRun',
    'InterruptionHook',
    'SIGNALS',
    'StrictLoadHook',
    'StrictResumeHook',
    'SyncBuffersHook',
    'AtomicCheckpointHook',
]
