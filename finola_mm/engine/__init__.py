"""What MMEngine lacks for our runs."""

from .annotation_check import AnnotationError
from .bad_samples_hook import BadSamplesHook, EvaluationDataError
from .batch_check import BatchError, check_batch
from .bfloat16_optim_wrapper import BFloat16OptimWrapper, computes_bfloat16
from .checkpoint_file import CheckpointError, read_checkpoint, write_weights
from .compile_hook import CompileHook
from .config import CfgOptions, find_checkpoint, in_own_module, load_config, unknown_setting
from .data_check import IMAGE_SUFFIXES, MissingDataError, check_data
from .data_time_hook import DataTimeHook
from .exact_resume import ExactEpochLoop, SeedIterationHook
from .features import collect, encode, image_loader, spread
from .finite_loss_hook import FiniteLossHook, NonFiniteLossError
from .freed_memory import keep_freed_memory
from .fsdp_strategy import ResumableFSDPStrategy, check_sharded
from .images import find_images
from .interruption_hook import InterruptedRun, InterruptionHook
from .knn_hook import KNNHook
from .labelled_data import LabelledData, NoLabelsError, labelled_data
from .processes import LaunchError, Processes, first_speaks
from .reconstruction_hook import ReconstructionHook, draw_reconstructions
from .resumable import Resumable, check_resumable, find_resumable
from .run_record import run_record
from .sync_buffers_hook import SyncBuffersHook
from .weights import Pretrained, encoder_part, find_tensors, load_weights
from .whole_checkpoint_hook import WholeCheckpointHook
from .whole_file import NO_SPACE, write_whole

__all__ = [
    'AnnotationError',
    'BFloat16OptimWrapper',
    'BadSamplesHook',
    'BatchError',
    'CfgOptions',
    'CheckpointError',
    'CompileHook',
    'DataTimeHook',
    'EvaluationDataError',
    'ExactEpochLoop',
    'FiniteLossHook',
    'IMAGE_SUFFIXES',
    'InterruptedRun',
    'InterruptionHook',
    'KNNHook',
    'LabelledData',
    'LaunchError',
    'MissingDataError',
    'NO_SPACE',
    'NoLabelsError',
    'NonFiniteLossError',
    'Pretrained',
    'Processes',
    'ReconstructionHook',
    'Resumable',
    'ResumableFSDPStrategy',
    'SeedIterationHook',
    'SyncBuffersHook',
    'WholeCheckpointHook',
    'check_batch',
    'check_data',
    'check_resumable',
    'check_sharded',
    'collect',
    'computes_bfloat16',
    'draw_reconstructions',
    'encode',
    'encoder_part',
    'find_checkpoint',
    'find_images',
    'find_resumable',
    'find_tensors',
    'first_speaks',
    'image_loader',
    'in_own_module',
    'keep_freed_memory',
    'labelled_data',
    'load_config',
    'load_weights',
    'read_checkpoint',
    'run_record',
    'spread',
    'unknown_setting',
    'write_weights',
    'write_whole',
]
