"""What happens between two steps of a run."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .bad_samples_hook import BadSamplesHook, EvaluationDataError
from .compile_hook import CompileHook
from .data_time_hook import DataTimeHook
from .finite_loss_hook import FiniteLossHook, NonFiniteLossError
from .interruption_hook import SIGNALS, InterruptedRun, InterruptionHook
from .strict_load_hook import StrictLoadHook, StrictResumeHook
from .sync_buffers_hook import SyncBuffersHook

__all__ = [
    'BadSamplesHook',
    'CompileHook',
    'DataTimeHook',
    'EvaluationDataError',
    'FiniteLossHook',
    'InterruptedRun',
    'InterruptionHook',
    'NonFiniteLossError',
    'SIGNALS',
    'StrictLoadHook',
    'StrictResumeHook',
    'SyncBuffersHook',
    'AtomicCheckpointHook',
]
