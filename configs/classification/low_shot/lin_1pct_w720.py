# Linear probing with 1 % of ImageNet's labels, encoder Mobile-Former W720.
# Measured   not yet run on ImageNet.
_base_ = ['lin_1pct.py']

model = dict(backbone=dict(arch='w720'), head=dict(in_channels=720, token_channels=192))
