# FINOLA with C = 128.
# Expected   PSNR 19.4 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=128), upsampler=dict(in_channels=128))
