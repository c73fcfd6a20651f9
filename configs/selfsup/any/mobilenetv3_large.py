# Masked FINOLA-B with encoder MobileNetV3-Large up to stride 16 (112 channels). mmpretrain builds
# the later layers, too; they are frozen.
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any.py']

model = dict(backbone=dict(type='mmpretrain.MobileNetV3', arch='large', out_indices=(12,)))
