# RTMDet of rtmdet_photopaste.py on trees in aerial photographs: one class, 34 tiles of about 384 x
# 384 pixels for training and 9 for validation (17 and 31 trees each).
#
# Train      tools/train.py configs/photos/rtmdet_trees.py --pretrained masked_finola_b_photos
# Measured   demo/README.md.
_base_ = ['rtmdet_photopaste.py']

data_root = '{{$FINOLA_PHOTOS:data/photos}}/det/trees'
classes = ('tree',)

train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.MinIoURandomCrop', min_ious=(0.5, 0.7, 0.9), min_crop_size=0.5),
    dict(type='mmdet.Resize', scale=(384, 384), keep_ratio=False),
    dict(type='mmdet.YOLOXHSVRandomAug'),
    dict(type='mmdet.RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(384, 384), keep_ratio=False),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
data = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(batch_size=4, dataset=dict(dataset=dict(**data, pipeline=train_pipeline)))
val_dataloader = dict(batch_size=4, dataset=dict(**data, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val.json')
test_evaluator = val_evaluator

model = dict(bbox_head=dict(num_classes=1))

max_epochs = 130
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        by_epoch=True,
        begin=0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
visualization = dict(score_thr=0.3)
default_hooks = dict(checkpoint=dict(interval=10), visualization=visualization)
work_dir = 'work_dirs/photos_rtmdet_trees'
auto_scale_lr = dict(base_batch_size=4)
