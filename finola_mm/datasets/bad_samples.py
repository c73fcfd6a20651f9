"""Count the unreadable samples of a data set across its processes, and enforce a limit."""

import logging
import traceback
from pathlib import Path

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log

from ..errors import BadDataError, UserError

# One byte per sample, ordered so that the maximum over ranks is their union.
UNSEEN, GOOD, BAD = 0, 1, 2

# The share of bad samples is computed over at least this many samples (or all samples of a smaller
# data set). Otherwise one bad file among the first ten would already exceed 1 %.
MIN_SEEN = 1000
NAMED = 3  # bad samples that the error names, with their reasons


class BadSampleTracker:
    """The state of each sample of a data set, shared by a rank and its data loader workers.

    A sample that was bad once stays bad. Reasons are known only to the process that found them.
    ``max_share`` is the largest tolerated share of bad samples among those seen by this rank and
    its workers.
    """

    def __init__(self, dataset, max_share: float):
        if not 0 <= max_share <= 1:
            raise UserError(f'max_bad_share is {max_share}; set it to a value from 0 to 1')
        self.dataset = dataset
        self.max_share = max_share
        self.states = torch.full((len(dataset),), UNSEEN, dtype=torch.uint8).share_memory_()
        self.reasons: dict[int, str] = {}

    @property
    def num_seen(self) -> int:
        return int(torch.count_nonzero(self.states))

    @property
    def num_bad(self) -> int:
        return int(torch.count_nonzero(self.states == BAD))

    @property
    def names(self) -> list[str]:
        return [self.name(index) for index in self.find_bad(self.states)]

    @staticmethod
    def find_bad(states: torch.Tensor) -> list[int]:
        """Return the indices of the bad samples in ``states`` (n,)."""
        return torch.nonzero(states == BAD).flatten().tolist()

    def states_of_all_ranks(self) -> torch.Tensor:
        """Return the union of ``states`` (n,) uint8 over all ranks, which must all call this."""
        states = self.states.clone()  # workers keep writing to the shared memory
        all_reduce(states, 'max')
        return states

    def name(self, index: int) -> str:
        """Return the file of a sample, or its index if the data set does not provide a file."""
        try:
            return str(self.dataset.get_data_info(index)['img_path'])
        except Exception:  # an unreadable sample may have no description either
            return f'sample {index}'

    def add_good(self, index: int) -> None:
        states = self.states.numpy()  # a view: element access on a tensor is slow
        if states[index] == UNSEEN:
            states[index] = GOOD

    def add_bad(self, index: int, error: Exception) -> None:
        """Count and log a bad sample; raise BadDataError if their share exceeds the limit."""
        self.reasons[index] = _reason(error)
        if self.states[index] == BAD:
            return
        self.states[index] = BAD
        message = f'Replaced {self.name(index)}, which cannot be read: {self.reasons[index]}'
        print_log(message, logger='current', level=logging.WARNING)
        bad, seen = self.num_bad, self.num_seen
        if bad > self.max_share * max(seen, min(len(self.states), MIN_SEEN)):
            raise self.error(f'{bad} of the {seen} samples seen so far') from error

    def error(self, what: str) -> BadDataError:
        """Return the error that stops a run because ``what`` cannot be read."""
        last = list(self.reasons.items())[-NAMED:]
        named = '; '.join(f'{self.name(index)}: {reason}' for index, reason in last)
        return BadDataError(
            f'{what} cannot be read (data set of {len(self.states)}, max_bad_share '
            f'{self.max_share:g}), including {named}. Repair or remove them, or set '
            '--cfg-options train_dataloader.dataset.max_bad_share=0.05 (or val_dataloader, '
            'test_dataloader).'
        )


def _reason(error: Exception) -> str:
    """Format the error type, its text and the line of code that raised it, on one line."""
    text = ' '.join(str(error).split())[:200]
    frames = traceback.extract_tb(error.__traceback__)
    place = f' ({Path(frames[-1].filename).name}, line {frames[-1].lineno})' if frames else ''
    return f'{type(error).__name__}: {text}{place}' if text else f'{type(error).__name__}{place}'
