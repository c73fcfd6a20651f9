# Masked FINOLA-B with any encoder. A config adds model.backbone; the model reads the width and the
# stride of its last map from the encoder. This base is for stride 16: the decoder is the paper's,
# and settings are those of Table 12 (configs/selfsup/masked_finola_b.py). For stride 32 see
# masked_finola_any_stride32.py.
_base_ = ['../selfsup/masked_finola_b.py']

model = dict(
    backbone=dict(_delete_=True),
    neck=dict(_delete_=True, type='finola_mm.BlockFINOLANeck'),
    upsampler=dict(_delete_=True, type='finola_mm.TransformerUpsampler'),
    head=dict(_delete_=True, type='finola_mm.MaskedReconstructionHead'),
)
