# Fine-tuning of the detector of detr_mf_dec211.py, encoder included.
# Expected   not available.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec522_finetune.py']

load_from = 'work_dirs/detr_mf_dec211/epoch_500.pth'

model = dict(decoder=dict(arch='211'))
