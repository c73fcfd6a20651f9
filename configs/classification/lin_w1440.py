# Linear probing with encoder Mobile-Former W1440.
# Expected   62.8 top-1 after masked FINOLA-B (Table 6).
# Measured   not yet run on ImageNet.
_base_ = ['lin.py']

model = dict(backbone=dict(arch='w1440'), head=dict(in_channels=1440, token_channels=256))
