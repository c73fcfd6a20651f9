# FINOLA at 96 x 96, with a map of 24 x 24; data and schedule of masked_finola_b.py.
# Train      make study
# Measured   docs/results.md.
_base_ = ['reconstruction.py']

meta_keys = _base_.meta_keys
train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmpretrain.RandomResizedCrop', scale=96, crop_ratio_range=(0.2, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
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
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
]
train_dataloader = dict(batch_size=64, dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

model = dict(neck=dict(size=24))

work_dir = 'work_dirs/study/finola'
auto_scale_lr = dict(base_batch_size=64)
