# Masked FINOLA-B on photographs: configs/demo/masked_finola_b.py with the data of finola.py.
# Train      tools/train.py configs/photos/masked_finola_b.py
# Measured   4000 steps in 53 minutes, one core of machine A, some other load: demo/README.md.
_base_ = ['../demo/masked_finola_b.py']

data_root = '{{$FINOLA_PHOTOS:data/photos}}/photos'
missing_data_hint = (
    'Make it: python tools/dataset_converters/make_photos.py --out data/photos, or name its folder '
    'by the environment variable FINOLA_PHOTOS.'
)

train_pipeline = [
    dict(
        type='finola_mm.LoadRandomResizedCrop',
        scale=128,
        crop_ratio_range=(0.05, 1.0),
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='finola_mm.RandomBlock', patch_size=16),
    dict(type='mmpretrain.PackInputs', meta_keys=_base_.meta_keys),
]
train_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root, pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root)))
test_dataloader = val_dataloader

max_iters = 4000
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
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=500, max_keep_ckpts=1), knn=dict(interval=max_iters))

work_dir = 'work_dirs/photos_masked_finola_b'
