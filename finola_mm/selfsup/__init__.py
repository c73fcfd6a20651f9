"""Self-supervised algorithms on mmpretrain."""

from .masked_finola import MaskedFINOLA

__all__ = ['MaskedFINOLA']
