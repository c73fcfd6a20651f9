# Classification with the encoder of mobilenetv3.py, for studies/encoders.py.
# Train      make study ARGS=encoders
# Measured   docs/results.md.
_base_ = ['cls_resnet18.py']

model = dict(
    backbone=dict(_delete_=True, type='mmpretrain.MobileNetV3', arch='large', out_indices=(12,)),
    head=dict(in_channels=112),
)

work_dir = 'work_dirs/study/any_cls_mobilenetv3'
