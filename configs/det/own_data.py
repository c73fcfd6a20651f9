# Detection of your own objects, trained on one GPU: MF-Dec-211 on Mobile-Former W720, encoder
# included, images of up to 640 pixels. See the tutorial docs/own_data.md. Without changes, the
# config reads the scenes of make_shapes.py.
#
# Copy this file to a new name in the same folder, and set data folder, files and classes in the
# copy. List the classes in the order of the annotation file; this command prints them:
#   python tools/check/coco.py FILE.json FOLDER
#
# Train      python tools/train.py configs/det/own_data.py --pretrained ENCODER --amp
#            Batch size 8. For a different total batch size, scale the learning rate with
#            --auto-scale-lr. ENCODER is a work directory or checkpoint of a pre-training run, or
#            the output of extract_backbone.py. The decoder is randomly initialized: with a few
#            hundred images, training takes many epochs.
# Test       python tools/test.py configs/det/own_data.py work_dirs/own_data --show-dir shown
# Measured   not yet run to completion.
_base_ = ['detr_mf_dec211_w720.py']

data_root = 'data/shapes/coco'
train_file, train_images = 'annotations/instances_train2017.json', 'train2017'
val_file, val_images = 'annotations/instances_val2017.json', 'val2017'
classes = (
    'ball',
    'cat',
    'donut',
    'fish',
    'heart',
    'house',
    'kite',
    'leaf',
    'moon',
    'mug',
    'star',
    'tree',
)
missing_data_hint = 'Set data_root to your folder in your copy of configs/det/own_data.py.'

train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=[(side, 640) for side in range(320, 513, 32)],
        keep_ratio=True,
    ),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(640, 512), keep_ratio=True),
    *_base_.test_pipeline[2:],
]
data = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        dataset=dict(
            **data, ann_file=train_file, data_prefix=dict(img=train_images), pipeline=train_pipeline
        )
    ),
)
val_dataloader = dict(
    dataset=dict(
        **data, ann_file=val_file, data_prefix=dict(img=val_images), pipeline=test_pipeline
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=f'{data_root}/{val_file}')
test_evaluator = val_evaluator

# The encoder is trained at a tenth of the learning rate; its BatchNorm statistics stay fixed.
model = dict(
    backbone=dict(frozen_stages=-1, norm_eval=True), bbox_head=dict(num_classes=len(classes))
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1)))
)

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=100, milestones=[80], gamma=0.1),
]
train_cfg = dict(max_epochs=100)
auto_scale_lr = dict(base_batch_size=8)
