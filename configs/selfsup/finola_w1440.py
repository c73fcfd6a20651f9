# FINOLA with encoder Mobile-Former W1440.
# Expected   PSNR 25.1 dB (Table 2b).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(backbone=dict(arch='w1440'), neck=dict(in_channels=1440))
