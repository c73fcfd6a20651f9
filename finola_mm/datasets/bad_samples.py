"""Which samples of a data set cannot be read: a tally that all processes share, and its limit."""

import logging
import traceback
from pathlib import Path

import torch
from mmengine.dist import all_reduce
from mmengine.logging import MMLogger, print_log

# One byte a sample. The order matters: the maximum over several processes is their union.
UNSEEN, GOOD, BAD = 0, 1, 2

# A share is judged as if at least so many samples had been seen (all, in a smaller data set):
# one bad file among the first ten says nothing, eleven already break a limit of 1 %.
MIN_SEEN = 1000
NAMED = 3  # bad samples that the error names, with their reasons


class BadDataError(ValueError):
    """Too much of a data set cannot be read. The message is one line, meant for the user."""

    def __init__(self, message: str):
        # torch raises a worker's error again with the whole traceback as its message.
        super().__init__(message.rpartition(f'{type(self).__name__}: ')[2].strip())


class BadSamples:
    """The tally of one data set, shared by the training process and its workers.

    A sample that was bad once stays bad. Reasons are known only to the process that met them.

    Args:
        dataset (BaseDataset): Gives the length, and through ``get_data_info`` the names.
        max_share (float): The largest tolerated share of bad samples among those seen by this
            process and its workers.
    """

    def __init__(self, dataset, max_share: float):
        if not 0 <= max_share <= 1:
            raise ValueError(f'max_bad_share must lie between 0 and 1, but is {max_share}')
        self.dataset = dataset
        self.max_share = max_share
        self.status = torch.full((len(dataset),), UNSEEN, dtype=torch.uint8).share_memory_()
        self.reasons: dict[int, str] = {}

    @property
    def num_seen(self) -> int:
        return int(torch.count_nonzero(self.status))

    @property
    def num_bad(self) -> int:
        return int(torch.count_nonzero(self.status == BAD))

    @property
    def names(self) -> list[str]:
        return [self.name(index) for index in self.find_bad(self.status)]

    @staticmethod
    def find_bad(status: torch.Tensor) -> list[int]:
        """Indices of the bad samples in a ``status`` (n,)."""
        return torch.nonzero(status == BAD).flatten().tolist()

    def over_processes(self) -> torch.Tensor:
        """``status`` (n,) uint8 over all processes, which all have to call this."""
        status = self.status.clone()  # its own memory: the workers go on writing
        all_reduce(status, 'max')
        return status

    def name(self, index: int) -> str:
        """The file of a sample, or its index where the data set gives none."""
        try:
            return str(self.dataset.get_data_info(index)['img_path'])
        except Exception:  # what cannot be read may not be described either
            return f'sample {index}'

    def add_good(self, index: int) -> None:
        status = self.status.numpy()  # a view: writing to it takes a tenth of the time
        if status[index] == UNSEEN:
            status[index] = GOOD

    def add_bad(self, index: int, error: Exception) -> None:
        """Count and report a bad sample.

        Raises:
            BadDataError: the share of bad samples is now above the limit.
        """
        self.reasons[index] = _reason(error)
        if self.status[index] == BAD:
            return
        self.status[index] = BAD
        print_log(
            f'Cannot read {self.name(index)}: {self.reasons[index]}. '
            'Another sample takes its place.',
            logger='current',
            level=logging.WARNING,
        )
        bad, seen = self.num_bad, self.num_seen
        if bad > self.max_share * max(seen, min(len(self.status), MIN_SEEN)):
            raise self.error(f'{bad} of the {seen} samples seen so far') from error

    def error(self, what: str) -> BadDataError:
        """The error that ends a run because ``what`` cannot be read."""
        named = list(self.reasons.items())[-NAMED:]
        return BadDataError(
            f'{what} cannot be read (data set of {len(self.status)}, max_bad_share '
            f'{self.max_share:g}), among them '
            + '; '.join(f'{self.name(index)}: {reason}' for index, reason in named)
            + '. Repair or remove them, or raise max_bad_share: --cfg-options '
            'train_dataloader.dataset.max_bad_share=0.05 (or val_, test_).'
        )

    def __getstate__(self) -> dict:
        """A spawned worker starts without a logger: hand over what it takes to make this one's."""
        logger = MMLogger.get_current_instance()
        files = [h for h in logger.handlers if isinstance(h, logging.FileHandler)]
        for handler in files:
            if handler.mode == 'w':  # from now on workers write to this file, too
                handler.mode = 'a'
                handler.close()  # the next record opens it again
        made_from = dict(
            name=logger.instance_name,
            log_level=min(handler.level for handler in logger.handlers),
            log_file=files[0].baseFilename if files else None,
            file_mode='a',
        )
        return dict(self.__dict__, logger=made_from)

    def __setstate__(self, state: dict) -> None:
        made_from = state.pop('logger')
        self.__dict__.update(state)
        if not MMLogger.check_instance_created(made_from['name']):
            MMLogger.get_instance(**made_from)


def _reason(error: Exception) -> str:
    """One line: the error, its text, and the line of code that raised it."""
    text = ' '.join(str(error).split())[:200]
    places = traceback.extract_tb(error.__traceback__)
    place = f' ({Path(places[-1].filename).name}, line {places[-1].lineno})' if places else ''
    return f'{type(error).__name__}: {text}{place}' if text else f'{type(error).__name__}{place}'
