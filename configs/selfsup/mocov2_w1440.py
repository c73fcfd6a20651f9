# MoCo v2 with encoder Mobile-Former W1440.
# Measured   not yet run on ImageNet.
_base_ = ['mocov2.py']

model = dict(backbone=dict(arch='w1440'), neck=dict(in_channels=1440))
