# Linear probing of the demo's encoder on generated shapes (12 classes).
#
# configs/classification/lin.py at a smaller size: images of 96 x 96, the small encoder, batch size
# 64, 400 steps.
#
# Train      tools/train.py configs/demo/cls_lin.py --pretrained work_dirs/demo
# Measured   not yet run in full.
_base_ = ['../classification/lin.py']

data_root = 'data/shapes/imagenet'
missing_data_hint = 'Generate it: python tools/dataset_converters/make_shapes.py --out data/shapes'

train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmpretrain.RandomResizedCrop', scale=96, crop_ratio_range=(0.5, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(
        type='mmpretrain.ResizeEdge',
        scale=96,
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='CenterCrop', crop_size=96),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    pin_memory=False,
    sampler=dict(type='finola_mm.SeededInfiniteSampler'),
    dataset=dict(dataset=dict(data_root=data_root, pipeline=train_pipeline)),
)
val_dataloader = dict(
    num_workers=1,
    pin_memory=False,
    dataset=dict(dataset=dict(data_root=data_root), pipeline=test_pipeline),
)
test_dataloader = val_dataloader

model = dict(
    data_preprocessor=dict(num_classes=12),
    backbone=dict(arch='small'),
    head=dict(num_classes=12, in_channels=256, token_channels=64),
)

optim_wrapper = dict(type='finola_mm.BFloat16OptimWrapper', optimizer=dict(lr=0.1 * 64 / 256))

max_iters = 400
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR',
        T_max=max_iters - 30,
        eta_min=0.0,
        by_epoch=False,
        begin=30,
        end=max_iters,
    ),
]
work_dir = 'work_dirs/demo_lin'
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters
)
default_hooks = dict(
    logger=dict(interval=25, log_metric_by_epoch=False),
    checkpoint=dict(interval=max_iters, by_epoch=False),
    visualization=dict(interval=50),
)
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(base_batch_size=64)
