# Masked FINOLA-B with encoder ResNet-50 up to stride 32, all four stages.
# Measured   not yet run on ImageNet.
_base_ = ['resnet18_s32.py']

model = dict(backbone=dict(depth=50))
