# Masked FINOLA-E with encoder Mobile-Former W720.
# Measured   not yet run on ImageNet.
_base_ = ['masked_finola_e.py']

model = dict(
    backbone=dict(arch='w720'),
    neck=dict(in_channels=720, channels=720),
    upsampler=dict(in_channels=720),
)
