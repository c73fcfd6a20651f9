"""Two steps of the demo's pre-training under MMEngine's DDP and FSDP strategies, on CPUs.

    tools/misc/launch.sh 2 ../tests/tools/train_sharded.py IMAGES WORK_DIR
"""

import sys

import torch
from mmengine.config import Config
from mmengine.runner import FlexibleRunner

from finola_mm.engine import Processes
from tests.conftest import ROOT

STRATEGIES = dict(
    ddp=dict(
        type='DDPStrategy',
        model_wrapper=dict(
            type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)),
    fsdp=dict(
        type='FSDPStrategy',
        state_dict_cfg='local',
        model_wrapper=dict(
            type='MMFullyShardedDataParallel',
            use_orig_params=True,
            device_id=torch.device('cpu'))),
)


def train(images: str, work_dir: str, name: str) -> None:
    cfg = Config.fromfile(ROOT / 'configs/demo/masked_finola_b.py')
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.dataset.data_root = images
    cfg.model.upsampler.depth = 1
    FlexibleRunner(
        model=cfg.model,
        work_dir=f'{work_dir}/{name}',
        experiment_name=name,
        strategy=STRATEGIES[name],
        train_dataloader=cfg.train_dataloader,
        train_cfg=dict(by_epoch=False, max_iters=2),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=2e-3)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False)),
        log_processor=dict(by_epoch=False, window_size=1),
        default_scope='mmpretrain',
        launcher='pytorch',
        randomness=dict(seed=0),
    ).train()


if __name__ == '__main__':
    arguments = sys.argv[1:3]
    processes = Processes('pytorch')
    with processes.one_voice():
        processes.join(Config())
        for strategy in STRATEGIES:
            train(*arguments, strategy)
