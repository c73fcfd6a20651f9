# FINOLA with a vector of 64 channels; all else as in finola.py.
# Expected   the paper's PSNR is 18.2 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=64), upsampler=dict(in_channels=64))
