# Masked FINOLA-B for encoders whose last map has stride 32, so that all their stages are trained:
# patches of 32 x 32 pixels, a map of 8 x 8 and a visible block of 4 x 4 positions for images of
# 256 x 256.
_base_ = ['masked_finola_any.py']

meta_keys = _base_.meta_keys
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(type='finola_mm.RandomBlock', patch_size=32),
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
]
test_pipeline = [
    *_base_.test_pipeline[:3],
    dict(type='finola_mm.RandomBlock', patch_size=32),
    dict(type='mmpretrain.PackInputs', meta_keys=meta_keys),
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
