"""What MMEngine lacks for our runs."""

from .annotation_check import AnnotationError
from .bad_samples_hook import BadSamplesHook
from .batch_check import check_batch
from .bfloat16_optim_wrapper import BFloat16OptimWrapper
from .checkpoint_file import CheckpointError, read_checkpoint, write_weights
from .compile_hook import CompileHook
from .config import find_checkpoint, load_config
from .data_check import IMAGE_SUFFIXES, MissingDataError, check_data
from .data_time_hook import DataTimeHook
from .exact_resume import ExactEpochLoop, SeedIterationHook
from .features import encode, image_loader, spread
from .finite_loss_hook import FiniteLossHook, NonFiniteLossError
from .images import find_images
from .knn_hook import KNNHook
from .labelled_data import LabelledData, NoLabelsError, labelled_data
from .reconstruction_hook import ReconstructionHook, draw_reconstructions
from .run_record import run_record
from .weights import Pretrained, encoder_part, find_tensors, load_weights

__all__ = [
    'AnnotationError',
    'BFloat16OptimWrapper',
    'BadSamplesHook',
    'CheckpointError',
    'CompileHook',
    'DataTimeHook',
    'ExactEpochLoop',
    'FiniteLossHook',
    'IMAGE_SUFFIXES',
    'KNNHook',
    'LabelledData',
    'MissingDataError',
    'NoLabelsError',
    'NonFiniteLossError',
    'Pretrained',
    'ReconstructionHook',
    'SeedIterationHook',
    'check_batch',
    'check_data',
    'draw_reconstructions',
    'encode',
    'encoder_part',
    'find_checkpoint',
    'find_images',
    'find_tensors',
    'image_loader',
    'labelled_data',
    'load_config',
    'load_weights',
    'read_checkpoint',
    'run_record',
    'spread',
    'write_weights',
]
