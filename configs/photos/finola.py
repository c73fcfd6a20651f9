# FINOLA on photographs: reconstruct 64 x 64 pixels from a single latent vector of 256 numbers.
#
# The data are made by tools/dataset_converters/make_photos.py (docs/photos.md): 301 photographs for
# training and 92 for validation, or the folder given in FINOLA_PHOTOS. There are few photographs,
# but most are large: crops cover 5 to 100 % of the area, instead of 50 to 100 %.
#
# Train      tools/train.py configs/photos/finola.py
# Measured   12,000 steps in an hour on one core of machine A: demo/README.md, finola_photos.
_base_ = ['../demo/finola.py']

data_root = '{{$FINOLA_PHOTOS:data/photos}}/photos'
missing_data_hint = (
    'Make it: python tools/dataset_converters/make_photos.py --out data/photos, or name its folder '
    'by the environment variable FINOLA_PHOTOS.'
)

train_pipeline = [
    dict(
        type='finola_mm.LoadRandomResizedCrop',
        scale=64,
        crop_ratio_range=(0.05, 1.0),
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs', meta_keys=_base_.meta_keys),
]
train_dataloader = dict(
    batch_size=16, dataset=dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
)
val_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root)))
test_dataloader = val_dataloader

# Start as plane waves, and train the matrices slowly: 22.05 dB on the validation images instead of
# 20.36 dB with the paper's start, after 12,000 steps (docs/results.md, what limits the vector).
model = dict(neck=dict(max_frequency=2.0), upsampler=dict(widths=(32, 16, 16)))
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), paramwise_cfg=dict(custom_keys=dict(finola=dict(lr_mult=0.1)))
)

max_iters = 12_000
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
auto_scale_lr = dict(base_batch_size=16)

work_dir = 'work_dirs/photos_finola'
