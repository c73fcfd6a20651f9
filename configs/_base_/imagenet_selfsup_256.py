# Images without labels, 256 x 256, for pre-training (Table 12; settings that it omits are those of
# MAE).
#
# The data are in data/imagenet/{train,val}, or in the folder given in FINOLA_IMAGENET. All
# images below the folder are used, with or without class folders. To use a list file (one image per
# line without label, paths relative to train/): --cfg-options
# train_dataloader.dataset.dataset.ann_file=/path/to/list.txt
data_root = '{{$FINOLA_IMAGENET:data/imagenet}}'

missing_data_hint = (
    'Put the images there, link the folder, or name its root by the environment variable '
    'FINOLA_IMAGENET; without validation images add --no-validate. Layouts: docs/recipes.md, '
    '"Data".'
)

data_preprocessor = dict(
    type='finola_mm.SelfSupDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

meta_keys = ('sample_idx', 'img_path', 'block_offset')

train_pipeline = [
    dict(
        type='finola_mm.LoadRandomResizedCrop',
        scale=256,
        crop_ratio_range=(0.2, 1.0),
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='finola_mm.RandomBlock', patch_size=16),
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
    dict(type='finola_mm.RandomBlock', patch_size=16),
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    collate_fn=dict(type='finola_mm.default_collate'),
    sampler=dict(type='finola_mm.SeededSampler', shuffle=True),
    dataset=dict(
        _scope_='mmpretrain',
        type='finola_mm.SeededDataset',
        dataset=dict(
            type='finola_mm.ImageFolder',
            data_root=data_root,
            data_prefix='train',
            with_label=False,
            pipeline=train_pipeline,
        ),
    ),
)

val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='finola_mm.default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        _scope_='mmpretrain',
        type='finola_mm.SeededDataset',
        dataset=dict(
            type='finola_mm.ImageFolder',
            data_root=data_root,
            data_prefix='val',
            with_label=False,
        ),
        pipeline=test_pipeline,  # here, mmpretrain's inferencers find it
    ),
)

val_evaluator = dict(type='finola_mm.MaskedPSNR')

test_dataloader = val_dataloader
test_evaluator = val_evaluator
