# DINO on COCO with an encoder pre-trained by configs/selfsup/any/resnet18_s32.py; data, schedule
# and safeguards as in ../dino_mf.py.
# Measured   not yet run.
_base_ = ['../dino_mf.py']

model = dict(
    backbone=dict(
        _delete_=True, type='mmdet.ResNet', depth=18, out_indices=(1, 2, 3), norm_eval=False
    ),
    neck=dict(in_channels=[128, 256, 512]),
)
