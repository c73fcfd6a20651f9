# FINOLA with C = 512.
# Expected   PSNR 22.2 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=512), upsampler=dict(in_channels=512))
