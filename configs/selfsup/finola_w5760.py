# FINOLA with encoder Mobile-Former W5760: 2 times as wide as W2880, except for its output of 2880
# channels.
# Expected   PSNR 26.1 dB (Table 2b).
# Measured   not yet run on ImageNet.
_base_ = ['finola.py']

model = dict(backbone=dict(arch='w5760'))
