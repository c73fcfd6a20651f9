# FINOLA with C = 256.
# Expected   PSNR 20.8 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=256), upsampler=dict(in_channels=256))
