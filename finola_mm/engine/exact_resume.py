"""A resumed run is the run that was interrupted, to the bit.

The host stack saves weights, optimizer, schedules, averages and log; the data come back by
``SeededSampler``, which makes a sample a function of (seed, epoch, index). Two things are
left, and are here: an epoch that was interrupted in its middle goes on in its middle, and what a
step draws at random (dropout, say) is a function of (seed, iteration, rank).
"""

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop

from ..registry import HOOKS, LOOPS
from .checkpoints import CheckpointError


@LOOPS.register_module()
class ExactEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, which goes on within an epoch.

    The host's own begins an interrupted epoch anew, so that its first samples count twice and the
    schedule ends early. A resume within an epoch needs ``SeededSampler``, or another sampler with
    its ``start_epoch_at(num_samples)``, and batches of a fixed size.
    """

    def run(self):
        self._compare_epochs(len(self.dataloader))
        return super().run()

    def _compare_epochs(self, length: int) -> None:
        """Refuse, or at the end of an epoch allow, a resume with epochs of another length.

        The length goes into the checkpoints by way of mmengine's message hub.
        """
        before = self.runner.message_hub.runtime_info.get('epoch_length', length)
        self.runner.message_hub.update_info('epoch_length', length)
        if before == length or not self._iter:
            return
        change = (
            f'this run makes {length} iterations an epoch and the checkpoint was written by one '
            f'with {before} (another batch size, number of processes or data set)'
        )
        if self._iter != self._epoch * before:
            raise CheckpointError(
                f'{change}; within an epoch that cannot be resumed: use a checkpoint from the end '
                'of an epoch, or the old settings'
            )
        self._iter = self._epoch * length
        self.runner.logger.warning(
            f'{change}: it goes on after epoch {self._epoch}, but is not the run that it was.'
        )

    def run_epoch(self) -> None:
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)  # iterations of this epoch
        if done:
            self._start_at(done)
        for idx, data_batch in enumerate(self.dataloader, done):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _start_at(self, done: int) -> None:
        sampler, batch_size = self.dataloader.sampler, self.dataloader.batch_size
        if batch_size is None or not hasattr(sampler, 'start_epoch_at'):
            raise CheckpointError(
                f'the checkpoint was written within an epoch, and {type(sampler).__name__} cannot '
                'start there: use finola_mm.SeededSampler and batches of a fixed size, or a '
                'checkpoint from the end of an epoch'
            )
        # The last batch of an epoch may be smaller.
        sampler.start_epoch_at(min(done * batch_size, len(sampler)))


@HOOKS.register_module()
class SeedIterationHook(Hook):
    """Seed Python's, NumPy's and torch's generators before every training iteration.

    The seed is a function of the run's seed, the iteration and the rank, so that dropout and its
    like draw the same in a resumed run. Costs some ten microseconds and no wait for the device.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        words = np.random.SeedSequence((runner.seed, runner.iter, get_rank())).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(words[1])
        torch.manual_seed(int(words[2]))
