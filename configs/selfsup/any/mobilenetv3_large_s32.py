# Masked FINOLA-B with encoder MobileNetV3-Large up to its last convolution (stride 32, 960
# channels).
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any_stride32.py']

model = dict(backbone=dict(type='mmpretrain.MobileNetV3', arch='large', out_indices=(16,)))
