"""Stacking samples to batches."""

from collections.abc import Sequence
from typing import Any

from mmengine import dataset

from ..registry import FUNCTIONS


@FUNCTIONS.register_module()
def default_collate(samples: Sequence[dict], _scope_: str | None = None) -> Any:
    """MMEngine's ``default_collate`` for configs that are found by name.

    To all outermost components of ``finola_mm::...``, MMEngine adds ``_scope_``. It removes the
    entry when it builds a component, but passes it on to a collate function.
    """
    return dataset.default_collate(samples)
