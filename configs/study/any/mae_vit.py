# MAE (mmpretrain's) with ViT-Ti and patches of 16 x 16, for studies/encoders.py: images, optimizer
# and the size of the decoder are those of resnet18.py.
# Train      make study ARGS=encoders
# Measured   docs/results.md.
_base_ = ['../masked_finola_b.py']

train_pipeline = [
    *_base_.train_pipeline[:3],
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

model = dict(
    _delete_=True,
    _scope_='mmpretrain',
    type='MAE',
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(type='MAEViT', arch='deit-tiny', img_size=96, patch_size=16, mask_ratio=0.75),
    neck=dict(
        type='MAEPretrainDecoder',
        num_patches=(96 // 16) ** 2,
        patch_size=16,
        embed_dim=192,
        decoder_embed_dim=192,
        decoder_depth=2,
        decoder_num_heads=3,
        mlp_ratio=4.0,
    ),
    head=dict(
        type='MAEPretrainHead',
        norm_pix=True,
        patch_size=16,
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
    ),
)

# On machine C of docs/results.md a step takes 0.53 s, with bfloat16 0.70 s.
optim_wrapper = dict(type='OptimWrapper')

work_dir = 'work_dirs/study/any_mae_vit'
