# Base config of the variants in studies/reconstruction.py: a small FINOLA on 64 x 64 images, half
# the batch size of configs/demo/finola.py, and half the width in the most expensive layers, since
# many runs are compared.
# Train      make study
# Measured   docs/results.md.
_base_ = ['../demo/finola.py']

data = dict(batch_size=16, num_workers=0, persistent_workers=False)
train_dataloader = data
val_dataloader = data
test_dataloader = data

# Scores per folder of images: a class, or the photograph from which the images were cropped.
val_evaluator = dict(lpips=False, per_folder=True)
test_evaluator = val_evaluator

model = dict(upsampler=dict(widths=(32, 16, 16)))

# PSNR after 250 steps on the shapes (seed 0): 19.30 dB at 5e-4, 19.63 dB at 1e-3, 19.20 dB at 2e-3,
# 18.25 dB at 4e-3.
optim_wrapper = dict(optimizer=dict(lr=1e-3))

default_hooks = dict(
    _delete_=True,
    logger=dict(type='LoggerHook', interval=25, log_metric_by_epoch=False),
    checkpoint=dict(
        type='finola_mm.AtomicCheckpointHook', interval=100, by_epoch=False, max_keep_ckpts=1
    ),
    visualization=dict(type='finola_mm.ReconstructionHook'),
)
work_dir = 'work_dirs/study/reconstruction'
auto_scale_lr = dict(base_batch_size=16)
