# FINOLA normalized like BatchNorm: batch statistics in training, moving averages in inference.
# Expected   PSNR 25.1 dB in training and 16.3 dB in inference (Section 4).
# Measured   not yet run on ImageNet.
_base_ = ['../finola.py']

model = dict(neck=dict(step='norm_moving'))
