# Runtime settings of all pre-training configs: pictures of reconstructions at each validation and,
# if the images are in class folders, kNN accuracy of the features at regular intervals.
_base_ = ['default_runtime.py']

custom_imports = dict(imports=['finola_mm.selfsup'], allow_failed_imports=False)

default_hooks = dict(
    visualization=dict(_delete_=True, type='finola_mm.ReconstructionHook'),
    # The bank has a tenth of ImageNet's training images.
    knn=dict(type='finola_mm.KNNHook', interval=100, bank_images=128_000),
)
