# FINOLA with C = 128 and a feature map of 128 x 128 instead of 16 x 16, upsampled with the rows of
# Table 10 from 128 on. For another width, set neck.channels and upsampler.in_channels with
# --cfg-options.
# Expected   unknown for this map.
# Measured   not yet run on ImageNet.
_base_ = ['finola_c128.py']

model = dict(neck=dict(size=128), upsampler=dict(scale=2))
