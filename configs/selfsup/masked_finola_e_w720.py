# Masked FINOLA-E, encoder Mobile-Former W720; all else as in masked_finola_e.py.
# Measured   not yet run on ImageNet.
_base_ = ['masked_finola_e.py']

model = dict(
    backbone=dict(arch='w720'),
    neck=dict(in_channels=720, channels=720),
    upsampler=dict(in_channels=720),
)
