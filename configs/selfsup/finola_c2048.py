# FINOLA with C = 2048.
# Expected   PSNR 25.1 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=2048), upsampler=dict(in_channels=2048))
