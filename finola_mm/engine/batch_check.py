"""Look at the batch before a run starts: is there one, and does the learning rate belong to it?"""

from mmengine.dist import get_world_size
from mmengine.runner import Runner


def check_batch(runner: Runner) -> None:
    """Refuse a training set without a single batch; warn where the recipe's batch is another.

    Raises:
        ValueError: fewer images than one batch needs, with the batch size that would do.
    """
    loader = runner.train_dataloader
    if len(loader) == 0:
        raise ValueError(
            f'{len(loader.sampler)} training images make no batch of {loader.batch_size} on each '
            'process; lower it: --cfg-options train_dataloader.batch_size=N'
        )
    scale = runner.cfg.get('auto_scale_lr') or {}
    base = scale.get('base_batch_size')
    accumulated = runner.cfg.optim_wrapper.get('accumulative_counts', 1)
    total = loader.batch_size * get_world_size() * accumulated
    if base and total != base and not scale.get('enable'):
        runner.logger.warning(
            f'The learning rate is for batches of {base} images and this run makes batches of '
            f'{total}: --auto-scale-lr scales it.'
        )
