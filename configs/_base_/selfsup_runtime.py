# Runtime of all pre-training configs: pictures of reconstructions at each validation and, where the
# images are in class folders, kNN accuracy of the features at intervals.
_base_ = ['default_runtime.py']

custom_imports = dict(imports=['finola_mm.selfsup'], allow_failed_imports=False)

default_hooks = dict(
    visualization=dict(_delete_=True, type='finola_mm.ReconstructionHook'),
    # A bank of a tenth of ImageNet's training images.
    knn=dict(type='finola_mm.KNNHook', interval=100, bank_images=128_000),
)
