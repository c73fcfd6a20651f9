# Masked FINOLA-E with encoder Mobile-Former W1440.
# Measured   not yet run on ImageNet.
_base_ = ['masked_finola_e.py']

model = dict(
    backbone=dict(arch='w1440'),
    neck=dict(in_channels=1440, channels=1440),
    upsampler=dict(in_channels=1440),
)
