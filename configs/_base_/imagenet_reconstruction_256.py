# Whole images without labels, 256 x 256: imagenet_selfsup_256.py without the visible
# block, evaluated by ImageQuality.
_base_ = ['imagenet_selfsup_256.py']

meta_keys = ('sample_idx', 'img_path')

train_pipeline = [
    dict(
        type='finola_mm.LoadRandomResizedCrop',
        scale=256,
        crop_ratio_range=(0.2, 1.0),
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
]

test_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(
        type='mmpretrain.ResizeEdge',
        scale=256,
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='CenterCrop', crop_size=256),
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
]

train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='finola_mm.ImageQuality')
test_evaluator = val_evaluator
