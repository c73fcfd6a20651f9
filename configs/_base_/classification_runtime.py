# Runtime settings of all classification configs.
_base_ = ['default_runtime.py']

custom_imports = dict(imports=['finola_mm.classification'], allow_failed_imports=False)
