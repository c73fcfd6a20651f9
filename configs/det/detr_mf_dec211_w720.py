# DETR with MF-Dec-211 on Mobile-Former W720, frozen.
# Sizes      decoder and head 8.0 M parameters, 12.2 G multiply-adds at 800 x 1333.
# Expected   AP on val2017: 33.0 with masked FINOLA, 35.8 after fine-tuning on ImageNet, 27.8
#            supervised.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec211.py']

model = dict(backbone=dict(arch='w720'), decoder=dict(in_channels=(48, 720)))
