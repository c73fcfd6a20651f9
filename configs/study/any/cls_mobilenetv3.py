# Classification with the encoder of mobilenetv3.py, for studies/encoders.py.
# Train      make study ARGS=encoders
# Measured   docs/results.md.
_base_ = ['cls_resnet18.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.MobileNetV3',
        arch='large',
        out_indices=(12,),
        norm_cfg=dict(type='BN', eps=1e-3, momentum=0.1),  # as in mobilenetv3.py
    ),
    head=dict(in_channels=112),
)

work_dir = 'work_dirs/study/any_cls_mobilenetv3'
