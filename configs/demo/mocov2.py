# MoCo v2 on generated shapes: the self-supervised baseline of the demo, with the same number of
# steps.
#
# configs/selfsup/mocov2.py at a smaller size: views of 64 x 64, the small encoder, a queue of 4096.
# On a single rank, keys are not shuffled: BatchNorm processes query and key in the same batches,
# which MoCo avoids.
#
# Train      tools/train.py configs/demo/mocov2.py
# Test       with a probe:
#            tools/train.py configs/demo/cls_lin.py --pretrained work_dirs/demo_mocov2
# Measured   not yet run in full.
_base_ = ['../selfsup/mocov2.py']

data_root = 'data/shapes/imagenet'
missing_data_hint = 'Generate it: python tools/dataset_converters/make_shapes.py --out data/shapes'

train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(
        type='mmpretrain.MultiView',
        num_views=2,
        transforms=[
            [
                dict(type='mmpretrain.RandomResizedCrop', scale=64, crop_ratio_range=(0.2, 1.0)),
                *_base_.view_pipeline[1:],
            ]
        ],
    ),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    pin_memory=False,
    sampler=dict(type='finola_mm.SeededInfiniteSampler'),
    dataset=dict(dataset=dict(data_root=data_root, pipeline=train_pipeline)),
)

model = dict(
    queue_len=4096,
    momentum=0.01,
    backbone=dict(arch='small'),
    neck=dict(in_channels=256, hid_channels=256),
)

optim_wrapper = dict(type='finola_mm.BFloat16OptimWrapper')

max_iters = 1200
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=max_iters, by_epoch=False, begin=0, end=max_iters),
]
work_dir = 'work_dirs/demo_mocov2'
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters)
default_hooks = dict(
    logger=dict(interval=25, log_metric_by_epoch=False),
    checkpoint=dict(interval=max_iters, by_epoch=False),
)
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(base_batch_size=64)
