# FINOLA with 16 paths of 1024 channels, a latent of 16,384 numbers; all else as in finola.py.
#
# Paper      arXiv 2310.12976. As in it, all paths share their matrices: of 1 M parameters each,
#            where one path of 16,384 channels would need 268 M.
# Expected   this pair is not among the figures that are known here; second hand, 8 paths of 1024
#            have 27.1 dB.
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(neck=dict(channels=1024, num_paths=16), upsampler=dict(in_channels=1024))
