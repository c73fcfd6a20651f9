# Masked FINOLA-B with an encoder of timm, here ConvNeXt-T up to stride 32, all four stages; see
# timm_convnext_tiny.py.
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any_stride32.py']

model = dict(
    backbone=dict(
        type='mmpretrain.TIMMBackbone',
        model_name='convnext_tiny',
        features_only=True,
        out_indices=(3,),
    )
)
