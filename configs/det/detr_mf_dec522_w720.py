# DETR with MF-Dec-522 on Mobile-Former W720, frozen.
# Sizes      decoder and head 18.2 M parameters, 31.1 G multiply-adds at 800 x 1333.
# Expected   AP on val2017: 40.0 with masked FINOLA, 41.6 after fine-tuning on ImageNet, 35.2
#            supervised.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec522.py']

model = dict(backbone=dict(arch='w720'), decoder=dict(in_channels=(48, 720)))
