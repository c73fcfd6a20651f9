# DETR with MF-Dec-211 on Mobile-Former W1440, frozen.
# Sizes      decoder and head 8.4 M parameters, 13.4 G multiply-adds at 800 x 1333.
# Expected   AP on val2017: 36.0 with masked FINOLA, 39.2 after fine-tuning on ImageNet, 31.2
#            supervised.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec211.py']

model = dict(backbone=dict(arch='w1440'), decoder=dict(in_channels=(96, 1440)))
