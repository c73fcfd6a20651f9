# Images without labels, two 224 x 224 views of each, with mmpretrain's augmentation for MoCo v2 and
# without validation.
#
# The data are in data/imagenet/train, or in train/ of the folder given in FINOLA_IMAGENET. All
# images are used, as in imagenet_selfsup_256.py.
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs32_mocov2.py']

data_root = '{{$FINOLA_IMAGENET:data/imagenet}}'

missing_data_hint = (
    'Put the images there, link the folder, or name its root by the environment variable '
    'FINOLA_IMAGENET. Layouts: docs/recipes.md, "Data".'
)

train_pipeline = [dict(type='finola_mm.LoadImageFromFile'), *_base_.train_pipeline[1:]]

train_dataloader = dict(
    _delete_=True,
    batch_size=32,
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
