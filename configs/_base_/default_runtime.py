# Runtime settings of all configs based on mmpretrain: mmpretrain's own, with TensorBoard in
# addition to the text and JSON logs, and a fixed seed (augmentation is a function of seed, epoch
# and sample).
_base_ = ['mmpretrain::_base_/default_runtime.py']

# A checkpoint is complete on disk before an older one is removed (docs/faults.md).
default_hooks = dict(
    runtime_info=dict(type='finola_mm.RuntimeInfoHook'),
    checkpoint=dict(type='finola_mm.AtomicCheckpointHook', interval=20, max_keep_ckpts=3),
)

# Exact resume of random numbers; safeguards against a non-finite loss and unreadable data; a
# checkpoint on SIGTERM, SIGINT or SIGUSR1; the same buffers on all ranks.
custom_hooks = [
    dict(type='finola_mm.SeedIterationHook'),
    dict(type='finola_mm.FiniteLossHook'),
    dict(type='finola_mm.BadSamplesHook'),
    dict(type='finola_mm.InterruptionHook'),
    dict(type='finola_mm.SyncBuffersHook'),
]

vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(_delete_=True, type='mmpretrain.UniversalVisualizer', vis_backends=vis_backends)

randomness = dict(seed=0)
