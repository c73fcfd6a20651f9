# Masked FINOLA-B with encoder ViT-S, patches of 16 x 16. Position embeddings have the size of the
# visible block; other sizes interpolate them.
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any.py']

model = dict(
    backbone=dict(
        type='mmpretrain.VisionTransformer', arch='deit-small', img_size=128, out_type='featmap'
    )
)
