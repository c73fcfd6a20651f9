# Masked FINOLA-B with encoder ResNet-50 up to stride 16 (three of its four stages).
# Measured   not yet run on ImageNet.
_base_ = ['resnet18.py']

model = dict(backbone=dict(depth=50))
