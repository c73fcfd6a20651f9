# Images with labels, 224 x 224, for classification (Table 13; settings that it omits are those of
# MAE).
#
# The data are in data/imagenet/{train,val}, or in the folder given in FINOLA_IMAGENET, with one
# folder per class. train/ and val/ must contain the same class folders; their sorted names are the
# classes. To use a list file ("path label" per line, paths relative to train/): --cfg-options
# train_dataloader.dataset.dataset.ann_file=/path/to/list.txt
#
# For a number of classes other than 1000, set model.head.num_classes and
# model.data_preprocessor.num_classes; for fewer than 5, also set val_evaluator.topk=1 and
# test_evaluator.topk=1.
data_root = '{{$FINOLA_IMAGENET:data/imagenet}}'

missing_data_hint = (
    'Put the images there, one folder for each class, link the folder, or name its root by the '
    'environment variable FINOLA_IMAGENET; without validation images add --no-validate.'
)

data_preprocessor = dict(
    type='finola_mm.ClsDataPreprocessor',
    num_classes=1000,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_pipeline = [
    dict(type='finola_mm.LoadRandomResizedCrop', scale=224, interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
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
    dict(type='CenterCrop', crop_size=224),
    dict(type='mmpretrain.PackInputs'),
]

train_dataloader = dict(
    batch_size=512,
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
        ),
        pipeline=test_pipeline,  # here, mmpretrain's inferencers find it
    ),
)

val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
