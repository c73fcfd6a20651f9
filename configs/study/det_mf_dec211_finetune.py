# Fine-tuning of the detector of det_mf_dec211.py, encoder included, at a smaller learning rate.
# Unlike in configs/det/, the BatchNorm statistics of the encoder are updated: the scenes differ
# from the pre-training images, and the batch size is 16.
# Train      make study
# Measured   docs/results.md.
_base_ = ['det_mf_dec211.py']

load_from = 'work_dirs/study/det_mf_dec211'

model = dict(backbone=dict(frozen_stages=-1))

optim_wrapper = dict(optimizer=dict(lr=3e-4))

max_epochs = 4
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        by_epoch=True,
        begin=0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
work_dir = 'work_dirs/study/det_mf_dec211_finetune'
