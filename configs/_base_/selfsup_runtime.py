# Runtime of every pre-training run: pictures of reconstructions at each validation, and now and
# then what the nearest neighbours make of the features (where the images lie in class folders).
_base_ = ['default_runtime.py']

custom_imports = dict(imports=['finola_mm.selfsup'], allow_failed_imports=False)

default_hooks = dict(
    visualization=dict(_delete_=True, type='finola_mm.ReconstructionHook'),
    # Known are a tenth of ImageNet's training images.
    knn=dict(type='finola_mm.KNNHook', interval=100, bank_images=128_000),
)
