# MoCo v2, encoder Mobile-Former W1440; all else as in mocov2.py.
# Measured   not yet run on ImageNet.
_base_ = ['mocov2.py']

model = dict(backbone=dict(arch='w1440'), neck=dict(in_channels=1440))
