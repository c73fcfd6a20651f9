# Fine-tuning of the detector of detr_mf_dec522_w720.py, encoder included.
# Expected   not available.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec522_finetune.py']

load_from = 'work_dirs/detr_mf_dec522_w720/epoch_500.pth'

model = dict(backbone=dict(arch='w720'), decoder=dict(in_channels=(48, 720)))
