# FINOLA with C = 64.
# Expected   PSNR 18.2 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=64), upsampler=dict(in_channels=64))
