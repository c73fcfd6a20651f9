# Runtime settings of all detection configs: mmdet's own, with TensorBoard in addition to the text
# and JSON logs, a fixed seed, and the safeguards and exact resume of default_runtime.py.
_base_ = ['mmdet::_base_/default_runtime.py']

# A checkpoint is complete on disk before an older one is removed (docs/faults.md).
default_hooks = dict(
    runtime_info=dict(type='finola_mm.RuntimeInfoHook'),
    checkpoint=dict(type='finola_mm.AtomicCheckpointHook', max_keep_ckpts=3),
)

custom_hooks = [
    dict(type='finola_mm.SeedIterationHook'),
    dict(type='finola_mm.FiniteLossHook'),
    dict(type='finola_mm.BadSamplesHook'),
    dict(type='finola_mm.InterruptionHook'),
    # Not sync_bn, which would change training and does not run on CPUs.
    dict(type='finola_mm.SyncBuffersHook'),
]

vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(vis_backends=vis_backends)

randomness = dict(seed=0)

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
