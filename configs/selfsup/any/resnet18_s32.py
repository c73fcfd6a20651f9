# Masked FINOLA-B with encoder ResNet-18 up to stride 32, all four stages.
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any_stride32.py']

model = dict(backbone=dict(type='mmpretrain.ResNet', depth=18, out_indices=(3,)))
