# Masked FINOLA-B with encoder Mobile-Former-294M up to stride 16 (four of its five stages).
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any.py']

model = dict(backbone=dict(type='finola_mm.MobileFormer', arch='294m', out_indices=(3,)))
