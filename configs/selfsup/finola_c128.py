# FINOLA with a vector of 128 channels; all else as in finola.py.
# Expected   the paper's PSNR is 19.4 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=128), upsampler=dict(in_channels=128))
