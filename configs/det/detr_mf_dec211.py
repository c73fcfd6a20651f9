# DETR with the Mobile-Former decoder MF-Dec-211.
# Sizes      decoder and head 9.2 M parameters, 15.7 G multiply-adds at 800 x 1333.
# Expected   AP on val2017: 36.7 with masked FINOLA, 41.0 after fine-tuning on ImageNet, 34.1
#            supervised.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec522.py']

model = dict(decoder=dict(arch='211'))
