"""Make a resumed run bit-identical to an uninterrupted one.

MMEngine saves weights, optimizer, schedules, averages and logs. ``SeededSampler`` makes each sample
a function of (seed, epoch, index). This module adds two parts: an interrupted epoch resumes at its
next batch, and the random numbers of a step, such as dropout's, depend only on (seed, iteration,
rank).
"""

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop

from ..errors import CheckpointError
from ..registry import HOOKS, LOOPS


@LOOPS.register_module()
class ExactEpochLoop(EpochBasedTrainLoop):
    """MMEngine's epoch-based loop, resumable within an epoch.

    MMEngine restarts an interrupted epoch, so that its first samples are used twice and the
    schedule ends early. Resuming within an epoch requires ``SeededSampler``, or another sampler
    with a method ``start_epoch_at(num_samples)``, and a fixed batch size.
    """

    _epoch: int  # completed epochs and iterations
    _iter: int

    def run(self):
        self._check_epoch_length(len(self.dataloader))
        return super().run()

    def _check_epoch_length(self, length: int) -> None:
        """Refuse to resume with a different epoch length, unless the checkpoint ends an epoch.

        Checkpoints store the length in MMEngine's message hub.
        """
        before = self.runner.message_hub.runtime_info.get('epoch_length', length)
        self.runner.message_hub.update_info('epoch_length', length)
        if before == length or not self._iter:
            return
        change = (
            f'this run has {length} iterations per epoch, but the run of the checkpoint had '
            f'{before} (different batch size, number of ranks or data set)'
        )
        if self._iter != self._epoch * before:
            raise CheckpointError(
                f'{change}. The checkpoint was written within an epoch: resume from one at the end '
                'of an epoch, or restore the settings'
            )
        self._iter = self._epoch * length
        self.runner.logger.warning(
            f'Resuming after epoch {self._epoch}, but {change}: results will differ from an '
            'uninterrupted run'
        )

    def run_epoch(self) -> None:
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)  # completed iterations of this epoch
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
                f'the checkpoint was written within an epoch, but {type(sampler).__name__} cannot '
                'start there. Use finola_mm.SeededSampler and a fixed batch size, or resume from a '
                'checkpoint at the end of an epoch'
            )
        # The last batch of an epoch may be smaller.
        sampler.start_epoch_at(min(done * batch_size, len(sampler)))


@HOOKS.register_module()
class SeedIterationHook(Hook):
    """Seed the generators of Python, NumPy and torch before every training iteration.

    The seed is a function of the run's seed, the iteration and the rank, so that dropout and
    similar layers are reproduced in a resumed run. Does not synchronize the device.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        words = np.random.SeedSequence((runner.seed, runner.iter, get_rank())).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(words[1])
        torch.manual_seed(int(words[2]))
