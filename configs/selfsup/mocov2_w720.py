# MoCo v2 with encoder Mobile-Former W720.
# Measured   not yet run on ImageNet.
_base_ = ['mocov2.py']

model = dict(backbone=dict(arch='w720'), neck=dict(in_channels=720))
