# latents.py with an encoder of twice the width: that of arch='small', except the tokens.
# Train      make study ARGS=latents
# Measured   docs/results.md.
_base_ = ['latents.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='finola_mm.MobileFormer',
        arch=dict(
            tokens=(6, 64),
            stem=64,
            stages=(((128, 96),), ((288, 128),), ((384, 192),), ((576, 256),)),
            out=512,
        ),
    ),
    neck=dict(in_channels=512),
)

work_dir = 'work_dirs/study/latents_wide'
