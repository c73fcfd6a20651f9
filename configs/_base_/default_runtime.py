# Runtime of every run on mmpretrain: its own, with TensorBoard beside the text and JSON logs, and a
# fixed seed (augmentation is a function of seed, epoch and sample).
_base_ = ['mmpretrain::_base_/default_runtime.py']

# Whole on the disk before an older one goes: docs/faults.md.
default_hooks = dict(
    checkpoint=dict(type='finola_mm.AtomicCheckpointHook', interval=20, max_keep_ckpts=3)
)

# A resumed run draws what the interrupted one would have drawn; a loss that is no number, data that
# cannot be read and a loader that is too slow are said, or end the run; all processes judge the
# model that the checkpoint holds.
custom_hooks = [
    dict(type='finola_mm.SeedIterationHook'),
    dict(type='finola_mm.FiniteLossHook'),
    dict(type='finola_mm.BadSamplesHook'),
    dict(type='finola_mm.DataTimeHook'),
    dict(type='finola_mm.InterruptionHook'),
    dict(type='finola_mm.SyncBuffersHook'),
]

vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(_delete_=True, type='UniversalVisualizer', vis_backends=vis_backends)

randomness = dict(seed=0)
