"""Replace MMEngine's reader and writer of local checkpoints, by one explicit call."""

from mmengine.fileio import register_backend
from mmengine.runner import CheckpointLoader

from .atomic_file import AtomicLocalBackend
from .checkpoint_file import read_checkpoint


def register_checkpoint_io() -> None:
    """Read local checkpoints without running code, and write them atomically, in this process.

    MMEngine's own loader falls back to full unpickling, and its local backend writes straight to
    the final path. The tools make this call; importing ``finola_mm`` does not.
    """
    CheckpointLoader.register_scheme(prefixes='', loader=read_checkpoint, force=True)
    register_backend('local', AtomicLocalBackend, prefixes='', force=True)
