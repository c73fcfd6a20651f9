# FINOLA with a vector of 512 channels; all else as in finola.py.
# Expected   the paper's PSNR is 22.2 dB (Table 2a).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=512), upsampler=dict(in_channels=512))
