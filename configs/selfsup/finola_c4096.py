# FINOLA with C = 4096.
# Expected   PSNR 25.9 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=4096), upsampler=dict(in_channels=4096))
