# RTMDet with the encoder of resnet18.py on photopaste at 192 x 192 pixels, for
# studies/encoder_detection.py. Neck and head are those of photos/rtmdet_photopaste.py; strides are
# 8 and 16, since the encoder ends there. All parameters are trained, so that random weights are a
# fair comparison.
# Train      make study ARGS=encoder_detection
# Measured   docs/results.md.
_base_ = ['../../photos/rtmdet_photopaste.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdet.ResNet',
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(1, 2),
        norm_eval=False,
    ),
    neck=dict(in_channels=[128, 256]),
)

train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.Resize', scale=(192, 192), keep_ratio=False),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.PackDetInputs'),
]
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**loader, dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = loader
test_dataloader = loader

optim_wrapper = dict(type='OptimWrapper')

max_epochs = 10
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
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
work_dir = 'work_dirs/study/any_det_resnet18'
