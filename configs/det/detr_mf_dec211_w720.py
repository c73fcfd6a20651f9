# DETR with MF-Dec-211 on Mobile-Former W720, frozen; all else as in detr_mf_dec211.py.
# Sizes      the paper's decoder and head: 8.0 M, 12.2 G multiply-adds at 800 x 1333.
# Expected   the paper's AP on val2017: 33.0 with its masked FINOLA, 35.8 fine-tuned on ImageNet
#            before, 27.8 supervised.
# Measured   not yet run on COCO.
_base_ = ['detr_mf_dec211.py']

model = dict(backbone=dict(arch='w720'), decoder=dict(in_channels=(48, 720)))
