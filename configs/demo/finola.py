# The FINOLA demo: reconstruct generated shapes from a single latent vector of 256 numbers each, in
# 20 minutes on one core.
#
# configs/selfsup/finola.py at a smaller size: images of 64 x 64, the small encoder, a map of 16 x
# 16, then the last three rows of Table 10 at a quarter of their width or less.
#
# Train      tools/train.py configs/demo/finola.py
# Measured   1.3 s per step on machine B of docs/results.md; scores not yet measured.
_base_ = ['../selfsup/finola.py']

data_root = 'data/shapes/imagenet'
missing_data_hint = 'Generate it: python tools/dataset_converters/make_shapes.py --out data/shapes'
meta_keys = _base_.meta_keys

train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmpretrain.RandomResizedCrop', scale=64, crop_ratio_range=(0.5, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(
        type='mmpretrain.ResizeEdge',
        scale=64,
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='CenterCrop', crop_size=64),
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    pin_memory=False,
    sampler=dict(type='finola_mm.SeededInfiniteSampler'),
    dataset=dict(dataset=dict(data_root=data_root, pipeline=train_pipeline)),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=1,
    pin_memory=False,
    dataset=dict(dataset=dict(data_root=data_root), pipeline=test_pipeline),
)
test_dataloader = val_dataloader

model = dict(
    backbone=dict(arch='small'),
    neck=dict(in_channels=256, channels=256, size=16),
    upsampler=dict(in_channels=256, scale=4, widths=(64, 32, 16), num_groups=4),
)

optim_wrapper = dict(
    type='finola_mm.BFloat16OptimWrapper', optimizer=dict(lr=2e-3, weight_decay=0.05)
)

max_iters = 1000
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
work_dir = 'work_dirs/demo_finola'
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters
)
default_hooks = dict(
    logger=dict(interval=25, log_metric_by_epoch=False),
    checkpoint=dict(interval=max_iters, by_epoch=False),
    knn=dict(interval=max_iters, by_epoch=False, bank_images=1000),
)
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(base_batch_size=32)
