# Runtime of every detection run: mmdet's own, with TensorBoard beside the text and JSON logs, a
# fixed seed, and the guards and the exact resume of default_runtime.py.
_base_ = ['mmdet::_base_/default_runtime.py']

# Whole on the disk before an older one goes: docs/faults.md.
default_hooks = dict(checkpoint=dict(type='finola_mm.AtomicCheckpointHook', max_keep_ckpts=3))

custom_hooks = [
    dict(type='finola_mm.SeedIterationHook'),
    dict(type='finola_mm.FiniteLossHook'),
    dict(type='finola_mm.BadSamplesHook'),
    dict(type='finola_mm.DataTimeHook'),
    dict(type='finola_mm.InterruptionHook'),
    # Not by sync_bn, which would change the training itself and does not run on CPUs.
    dict(type='finola_mm.SyncBuffersHook'),
]

vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(vis_backends=vis_backends)

randomness = dict(seed=0)

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
