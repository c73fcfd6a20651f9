# COCO 2017 for detection with DETR's augmentation (the paper names only the framework): horizontal
# flip, and resizing to a shorter side of 480 to 800 pixels and a longer side of at most 1333. With
# probability 0.5, the image is first resized to a smaller size and cropped to 384 to 600 pixels.
#
# The data are in data/coco/{annotations,train2017,val2017}, or in the folder given in FINOLA_COCO.
# Annotation files are checked before a run; tools/check/coco.py also checks all images. For other
# classes, set `metainfo=dict(classes=(...))` in both data sets and `num_classes` in the model.
custom_imports = dict(imports=['finola_mm.det'], allow_failed_imports=False)

data_root = '{{$FINOLA_COCO:data/coco}}'

missing_data_hint = (
    'Put COCO 2017 there (annotations/, train2017/ and val2017/), link the folder, or name its '
    'root by the environment variable FINOLA_COCO; without validation images add --no-validate.'
)

sides = [(side, 1333) for side in range(480, 801, 32)]
train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [dict(type='RandomChoiceResize', scales=sides, keep_ratio=True)],
            [
                dict(
                    type='RandomChoiceResize',
                    scales=[(400, 1333), (500, 1333), (600, 1333)],
                    keep_ratio=True,
                ),
                dict(
                    type='mmdet.RandomCrop',
                    crop_type='absolute_range',
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                dict(type='RandomChoiceResize', scales=sides, keep_ratio=True),
            ],
        ],
    ),
    dict(type='mmdet.PackDetInputs'),
]

test_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

# AspectRatioBatchSampler, which groups tall and wide images, is not used: it keeps samples back for
# later batches, so a run could not be resumed within an epoch. Some batches have more padding.
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='finola_mm.SeededSampler', shuffle=True),
    dataset=dict(
        _scope_='mmdet',
        type='finola_mm.SeededDataset',
        dataset=dict(
            type='CocoDataset',
            data_root=data_root,
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=train_pipeline,
        ),
    ),
)

# Not wrapped in SeededDataset: mmdet's DetInferencer and tools expect the pipeline here, and an
# evaluation must not replace images, since this would change the AP.
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        _scope_='mmdet',
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='finola_mm.CocoMetric',
    ann_file=data_root + '/annotations/instances_val2017.json',
    metric='bbox',
)
test_evaluator = val_evaluator
