# DETR with MF-Dec-211 on Mobile-Former W1440, frozen; all else as in detr_mf_dec211.py.
# Sizes      the paper's decoder and head: 8.4 M, 13.4 G multiply-adds at 800 x 1333.
# Expected   the paper's AP on val2017: 36.0 with its masked FINOLA, 39.2 fine-tuned on ImageNet
#            before, 31.2 supervised.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec211.py']

model = dict(backbone=dict(arch='w1440'), decoder=dict(in_channels=(96, 1440)))
