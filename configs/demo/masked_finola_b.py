# The pre-training demo (`make demo`): masked FINOLA-B on generated shapes; takes minutes on 2
# cores.
#
# configs/selfsup/masked_finola_b.py at a smaller size: images of 128 x 128, a visible block of 64 x
# 64 (4 x 4 positions), the small encoder, 2 transformer blocks. The batch size is small because the
# step time on a CPU is proportional to it, and the number of steps matters most.
#
# Train      tools/train.py configs/demo/masked_finola_b.py
# Measured   docs/results.md.
_base_ = ['../selfsup/masked_finola_b.py']

data_root = 'data/shapes/imagenet'
missing_data_hint = 'Generate it: python tools/dataset_converters/make_shapes.py --out data/shapes'
meta_keys = _base_.meta_keys

train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmpretrain.RandomResizedCrop', scale=128, crop_ratio_range=(0.5, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='finola_mm.RandomBlock', patch_size=16),
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(
        type='mmpretrain.ResizeEdge',
        scale=128,
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='CenterCrop', crop_size=128),
    dict(type='finola_mm.RandomBlock', patch_size=16),
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
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

# The parts of the model are in ../selfsup/masked_finola_b.py.
model = dict(
    backbone=dict(arch='small'),
    neck=dict(channels=256),
    upsampler=dict(in_channels=256, embed_dim=192, depth=2, num_heads=3),
)

optim_wrapper = dict(
    type='finola_mm.BFloat16OptimWrapper',
    # At 2e-3, rounding determines whether the loss rises again after about 250 steps:
    # docs/results.md.
    optimizer=dict(lr=5e-4, weight_decay=0.05),
)

max_iters = 1200
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
work_dir = 'work_dirs/demo'
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters
)
default_hooks = dict(
    logger=dict(interval=25, log_metric_by_epoch=False),
    checkpoint=dict(interval=max_iters, by_epoch=False),
    knn=dict(interval=max_iters, by_epoch=False, bank_images=1000),
)
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(base_batch_size=64)
