# Masked FINOLA-B with encoder ResNet-18 up to stride 16, for studies/encoders.py: images and
# decoder of ../masked_finola_b.py.
# Train      make study ARGS=encoders
# Measured   docs/results.md.
_base_ = ['../masked_finola_b.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ResNet',
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
    ),
    # Widths and stride are read from the encoder.
    neck=dict(_delete_=True, type='finola_mm.BlockFINOLANeck'),
    upsampler=dict(
        _delete_=True, type='finola_mm.TransformerUpsampler', embed_dim=192, depth=2, num_heads=3
    ),
    head=dict(_delete_=True, type='finola_mm.MaskedReconstructionHead'),
)

work_dir = 'work_dirs/study/any_resnet18'
