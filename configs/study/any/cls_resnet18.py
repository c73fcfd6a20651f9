# Classification with the encoder of resnet18.py: fine-tuning in studies/encoders.py, and the images
# of kNN and the linear classifier.
# Train      make study ARGS=encoders
# Measured   docs/results.md.
_base_ = ['../../demo/cls_supervised.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ResNet',
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        _delete_=True,
        type='LinearClsHead',
        num_classes=12,
        in_channels=256,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

work_dir = 'work_dirs/study/any_cls_resnet18'
