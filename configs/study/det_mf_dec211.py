# The detection demo without worker processes, for studies/detection.py.
# Train      make study
# Measured   docs/results.md.
_base_ = ['../demo/det_mf_dec211.py']

loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = loader
val_dataloader = loader
test_dataloader = loader

work_dir = 'work_dirs/study/det_mf_dec211'
