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


@LOOPS.register_module()
class ExactEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, which goes on within an epoch.

    The host's own begins an interrupted epoch anew, so that its first samples count twice and the
    schedule ends early. Such a resume needs ``SeededSampler``, or another sampler with its
    ``start_epoch_at(num_samples)``.
    """

    def run_epoch(self) -> None:
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)  # iterations of this epoch
        if done:
            self.dataloader.sampler.start_epoch_at(done * self.dataloader.batch_size)
        for idx, data_batch in enumerate(self.dataloader, done):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


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
