# FINOLA with a map of 32 x 32 positions and 128 channels; all else as in finola_c128.py, whose
# map has 16 x 16. Table 10's stack from the row of 32 on. Another width: neck.channels and
# upsampler.in_channels through --cfg-options.
# Expected   not known for this map.
# Measured   not yet run on ImageNet.
_base_ = ['finola_c128.py']

model = dict(neck=dict(size=32), upsampler=dict(scale=8))
