# Linear probing with encoder Mobile-Former W720.
# Expected   51.3 top-1 after masked FINOLA-B (Table 6).
# Measured   not yet run on ImageNet.
_base_ = ['lin.py']

model = dict(backbone=dict(arch='w720'), head=dict(in_channels=720, token_channels=192))
