# FINOLA with a vector of 1024 channels; all else as in finola.py.
# Expected   the paper's PSNR is 23.7 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=1024), upsampler=dict(in_channels=1024))
