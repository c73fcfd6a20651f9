# FINOLA with a vector of 4096 channels; all else as in finola.py.
# Expected   the paper's PSNR is 25.9 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=4096), upsampler=dict(in_channels=4096))
