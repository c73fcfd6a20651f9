# Masked FINOLA-B on photographs: configs/demo/masked_finola_b.py with the data of finola.py.
# Train      tools/train.py configs/photos/masked_finola_b.py
# Measured   not yet run.
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

work_dir = 'work_dirs/photos_masked_finola_b'
