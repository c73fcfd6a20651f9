# Linear probing with 1 % of ImageNet's labels, encoder Mobile-Former W1440.
# Measured   not yet run on ImageNet.
_base_ = ['lin_1pct.py']

model = dict(backbone=dict(arch='w1440'), head=dict(in_channels=1440, token_channels=256))
