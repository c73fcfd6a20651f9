# FINOLA with C = 128 and a feature map of 256 x 256 instead of 16 x 16, upsampled with the rows of
# Table 10 from 256 on. For another width, set neck.channels and upsampler.in_channels with
# --cfg-options.
# Paper      abstract of version 2: a map of up to the image size, followed by only three 3x3
#            convolutions.
# Expected   unknown for this map.
# Measured   not yet run on ImageNet.
_base_ = ['finola_c128.py']

model = dict(neck=dict(size=256), upsampler=dict(scale=1))
