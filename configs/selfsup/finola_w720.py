# FINOLA with encoder Mobile-Former W720.
# Expected   PSNR 24.4 dB (Table 2b).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(backbone=dict(arch='w720'), neck=dict(in_channels=720))
