# MoCo v2, encoder Mobile-Former W720; all else as in mocov2.py.
# Measured   not yet run on ImageNet.
_base_ = ['mocov2.py']

model = dict(backbone=dict(arch='w720'), neck=dict(in_channels=720))
