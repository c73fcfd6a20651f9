# FINOLA with a vector of 256 channels; all else as in finola.py.
# Expected   the paper's PSNR is 20.8 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=256), upsampler=dict(in_channels=256))
