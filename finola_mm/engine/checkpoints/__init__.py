"""Checkpoints: reading and writing files, matching state dicts, finding the one to resume."""

from .checkpoint_file import atomic_write

__all__ = ['atomic_write']
