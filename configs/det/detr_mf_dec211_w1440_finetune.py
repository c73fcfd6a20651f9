# Fine-tuning of the detector of detr_mf_dec211_w1440.py, encoder included.
# Expected   not available.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec211_finetune.py']

load_from = 'work_dirs/detr_mf_dec211_w1440/epoch_500.pth'

model = dict(backbone=dict(arch='w1440'), decoder=dict(in_channels=(96, 1440)))
