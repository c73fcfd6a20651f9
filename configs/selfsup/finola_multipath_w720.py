# FINOLA with 16 paths of 1024 channels, encoder Mobile-Former W720.
# Measured   not yet run on ImageNet.
_base_ = ['finola_multipath.py']

model = dict(backbone=dict(arch='w720'), neck=dict(in_channels=720))
