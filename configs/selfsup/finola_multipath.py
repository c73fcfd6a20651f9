# FINOLA with 16 paths of 1024 channels: a latent of 16,384 numbers.
#
# The paths share their matrices, as in the paper: 1 M parameters each. The matrices of a single
# path of 16,384 channels would have 268 M.
#
# Paper      arXiv 2310.12976.
# Expected   unknown for this setting; according to a secondary source, 8 paths of 1024 reach 27.1
#            dB.
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=1024, num_paths=16), upsampler=dict(in_channels=1024))
