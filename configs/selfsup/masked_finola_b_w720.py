# Masked FINOLA-B, encoder Mobile-Former W720; all else as in masked_finola_b.py.
# Expected   the paper's linear probing of this encoder is 51.3 top-1.
# Measured   not yet run on ImageNet.
_base_ = ['masked_finola_b.py']

model = dict(backbone=dict(arch='w720'), neck=dict(channels=720), upsampler=dict(in_channels=720))
