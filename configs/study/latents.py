# configs/photos/finola.py with the paper's start, for studies/latents.py.
# Train      make study ARGS=latents
# Measured   docs/results.md.
_base_ = ['../photos/finola.py']

data = dict(batch_size=16, num_workers=0, persistent_workers=False)
train_dataloader = data
val_dataloader = data
test_dataloader = data
val_evaluator = dict(lpips=False)
test_evaluator = val_evaluator

# The paper's pooling, and one learning rate; the study changes one setting at a time.
model = dict(neck=dict(max_frequency=None))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(finola=dict(lr_mult=1.0))))
default_hooks = dict(
    _delete_=True,
    logger=dict(type='LoggerHook', interval=25, log_metric_by_epoch=False),
    checkpoint=dict(
        type='finola_mm.AtomicCheckpointHook', interval=100, by_epoch=False, max_keep_ckpts=1
    ),
    visualization=dict(type='finola_mm.ReconstructionHook'),
)
work_dir = 'work_dirs/study/latents'
