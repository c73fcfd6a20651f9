"""Check the batch size of a run against its data, its learning rate and MoCo's queue."""

import math

from mmengine.dist import get_world_size
from mmengine.runner import Runner

from ...errors import UserError


def check_batch(runner: Runner) -> None:
    """Log the total batch size and the learning rate; warn if they do not match.

    Raises:
        UserError: there are fewer images than one batch, or MoCo's queue is not divisible by it.
    """
    loader = runner.train_dataloader
    # Not loader.batch_size, which is None with mmdet's AspectRatioBatchSampler
    batch_size = getattr(loader.batch_sampler, 'batch_size', None)
    if batch_size is None:
        return
    if len(loader) == 0:
        raise UserError(
            f'there are {len(loader.batch_sampler.sampler)} training images'
            f'{" for each rank" if get_world_size() > 1 else ""}, fewer than one batch of '
            f'{batch_size}. Lower the batch size: --cfg-options '
            'train_dataloader.batch_size=N, in Python finola_mm.pretrain(..., batch_size=N)'
        )
    scale = runner.cfg.get('auto_scale_lr') or {}
    base = scale.get('base_batch_size')
    steps = runner.cfg.optim_wrapper.get('accumulative_counts', 1)
    ranks = get_world_size()
    total = ranks * batch_size * steps
    runner.message_hub.update_info('total_batch_size', total)  # compared by a resumed run
    rate = runner.cfg.optim_wrapper.get('optimizer', {}).get('lr', math.nan)  # nan: the default
    if scale.get('enable'):
        rate *= ranks * batch_size / base  # as MMEngine does, without accumulation
    runner.logger.info(
        f'total batch size {total} = {ranks} (ranks) x {batch_size} (images) x {steps} '
        f'(accumulated steps); learning rate {rate:g}'
    )
    queue = runner.cfg.model.get('queue_len')
    if queue and queue % (ranks * batch_size):
        raise UserError(
            f"MoCo's queue of {queue} keys is not a multiple of the {ranks * batch_size} "
            'images per step. Change model.queue_len or train_dataloader.batch_size (--cfg-options)'
        )
    if base and total != base and not scale.get('enable'):
        runner.logger.warning(
            f'The learning rate is set for a total batch size of {base}, but this run uses '
            f'{total}. Scale the learning rate with --auto-scale-lr.'
        )
