"""Look at the batch before a run starts: is there one, and does the learning rate belong to it?"""

from mmengine.dist import get_world_size
from mmengine.runner import Runner


class BatchError(ValueError):
    """There is no batch to train on. The message is meant for the user."""


def check_batch(runner: Runner) -> None:
    """Refuse a batch that cannot be; say what a batch is and the learning rate.

    Warns where the recipe's batch is another.

    Raises:
        BatchError: fewer images than one batch needs, or a number that MoCo's queue does not take.
    """
    loader = runner.train_dataloader
    if len(loader) == 0:
        raise BatchError(
            f'{len(loader.sampler)} training images make no batch of {loader.batch_size} on each '
            'process; lower it: --cfg-options train_dataloader.batch_size=N'
        )
    scale = runner.cfg.get('auto_scale_lr') or {}
    base = scale.get('base_batch_size')
    steps = runner.cfg.optim_wrapper.get('accumulative_counts', 1)
    processes = get_world_size()
    total = processes * loader.batch_size * steps
    rate = runner.cfg.optim_wrapper.optimizer.lr
    if scale.get('enable'):
        rate *= processes * loader.batch_size / base  # as the runner does, without the steps
    runner.logger.info(
        f'{_count(processes, "process")} x {_count(loader.batch_size, "image")} x '
        f'{_count(steps, "step")} = batches of {total}; learning rate {rate:g}'
    )
    queue = runner.cfg.model.get('queue_len')
    if queue and queue % (processes * loader.batch_size):
        raise BatchError(
            f"MoCo's queue of {queue} keys is filled by {processes * loader.batch_size} a step, "
            'which has to divide it: --cfg-options train_dataloader.batch_size=N or '
            'model.queue_len=N'
        )
    if base and total != base and not scale.get('enable'):
        runner.logger.warning(
            f'The learning rate is for batches of {base} images and this run makes batches of '
            f'{total}: --auto-scale-lr scales it.'
        )


def _count(number: int, noun: str) -> str:
    plural = '' if number == 1 else 'es' if noun.endswith('s') else 's'
    return f'{number} {noun}{plural}'
