# Masked FINOLA-B with encoder Mobile-Former-294M up to stride 32, all five stages. The final 1x1
# convolution is left out: its ReLU6 cannot match FINOLA's values of either sign.
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any_stride32.py']

model = dict(backbone=dict(type='finola_mm.MobileFormer', arch='294m', out_indices=(4,)))
