# FINOLA with a map of 256 x 256 positions and 128 channels; all else as in finola_c128.py, whose
# map has 16 x 16. Table 10's stack from the row of 256 on. Another width: neck.channels and
# upsampler.in_channels through --cfg-options.
#
# Paper      the second version's abstract: a map up to the image's own size, and only three 3x3
#            convolutions after it.
# Expected   not known for this map.
# Measured   not yet run on ImageNet.
_base_ = ['finola_c128.py']

model = dict(neck=dict(size=256), upsampler=dict(scale=1))
