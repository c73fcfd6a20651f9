"""Self-supervised algorithms on mmpretrain."""

from .finola import FINOLA
from .masked_finola import MaskedFINOLA

__all__ = ['FINOLA', 'MaskedFINOLA']
