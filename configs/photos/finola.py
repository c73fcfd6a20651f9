# FINOLA on photographs: configs/demo/finola.py with another data set.
#
# The data are made by tools/dataset_converters/make_photos.py (docs/photos.md): 301 photographs for
# training and 92 for validation, or the folder given in FINOLA_PHOTOS. There are few photographs,
# but most are large: crops cover 5 to 100 % of the area, instead of 50 to 100 %.
#
# Train      tools/train.py configs/photos/finola.py
# Measured   not yet run.
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
train_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root, pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root)))
test_dataloader = val_dataloader

# Start as plane waves, and train the matrices slowly: with 400 steps of configs/study/latents.py,
# 18.2 dB on the validation images instead of 16.1 dB (docs/results.md, trials).
model = dict(neck=dict(max_frequency=2.0))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(finola=dict(lr_mult=0.1))))

work_dir = 'work_dirs/photos_finola'
