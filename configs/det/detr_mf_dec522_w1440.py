# DETR with MF-Dec-522 on Mobile-Former W1440, frozen.
# Sizes      decoder and head 18.6 M parameters, 32.3 G multiply-adds at 800 x 1333.
# Expected   AP on val2017: 42.6 with masked FINOLA, 44.0 after fine-tuning on ImageNet, 38.3
#            supervised.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec522.py']

model = dict(backbone=dict(arch='w1440'), decoder=dict(in_channels=(96, 1440)))
