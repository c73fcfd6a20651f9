# Detection of photographed cut-outs on photographed backgrounds (photopaste):
# configs/demo/det_mf_dec211.py with another data set, scenes at 192 x 192 pixels.
#
# The data are made by tools/dataset_converters/make_photos.py (docs/photos.md).
#
# Train      tools/train.py configs/photos/det_photopaste.py \
#                --pretrained work_dirs/photos_masked_finola_b
# Measured   not yet run.
_base_ = ['../demo/det_mf_dec211.py']

data_root = '{{$FINOLA_PHOTOS:data/photos}}/det/photopaste'
missing_data_hint = (
    'Make it: python tools/dataset_converters/make_photos.py --out data/photos, or name its folder '
    'by the environment variable FINOLA_PHOTOS.'
)
classes = (
    'bird',
    'fish',
    'flower',
    'fruit',
    'hoofed',
    'household',
    'mammal',
    'music',
    'small_animal',
    'tool',
    'vegetable',
    'vehicle',
)

train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.Resize', scale=(192, 192), keep_ratio=False),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(192, 192), keep_ratio=False),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_data = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file='annotations/instances_train.json',
    data_prefix=dict(img='train'),
    pipeline=train_pipeline,
)
val_data = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    ann_file='annotations/instances_val.json',
    data_prefix=dict(img='val'),
    pipeline=test_pipeline,
)
train_dataloader = dict(dataset=dict(dataset=train_data))
val_dataloader = dict(dataset=val_data)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val.json')
test_evaluator = val_evaluator

work_dir = 'work_dirs/photos_det_photopaste'
