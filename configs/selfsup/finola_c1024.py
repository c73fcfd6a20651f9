# FINOLA with C = 1024.
# Expected   PSNR 23.7 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=1024), upsampler=dict(in_channels=1024))
