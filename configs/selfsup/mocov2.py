# MoCo v2, encoder Mobile-Former W2880: the self-supervised baseline of Table 5, on ImageNet-1K.
#
# The algorithm and its settings are mmpretrain's for ResNet-50; the FINOLA paper gives none. The
# input of the projection is the average of the encoder's 2880 channels; the tokens are used only
# inside the encoder. Keys are shuffled between ranks, so that BatchNorm statistics do not reveal
# pairs of query and key; on a single rank there is no shuffling.
#
# Paper      arXiv 2003.04297.
# Train      tools/dist_train.sh configs/selfsup/mocov2.py 8 --amp
#            8 GPUs x 32 images = batch size 256. A different total batch size must divide the queue
#            length of 65536; scale the learning rate with --auto-scale-lr. Hours and memory: not
#            yet measured.
# Test       with a probe:
#            tools/dist_train.sh configs/classification/lin.py 8 --pretrained work_dirs/mocov2
# Expected   Table 5 is not available.
# Measured   not yet run on ImageNet.
_base_ = ['../_base_/imagenet_mocov2_224.py', '../_base_/default_runtime.py']

custom_imports = dict(imports=['finola_mm.selfsup'], allow_failed_imports=False)

model = dict(
    _scope_='mmpretrain',
    type='MoCo',
    queue_len=65536,
    feat_dim=128,
    momentum=0.001,
    data_preprocessor=dict(_base_.data_preprocessor, type='finola_mm.SelfSupDataPreprocessor'),
    backbone=dict(type='finola_mm.MobileFormer', arch='w2880'),
    neck=dict(type='MoCoV2Neck', in_channels=2880, hid_channels=2048, out_channels=128),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.2),
)

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.03, weight_decay=1e-4, momentum=0.9)
)

param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        T_max=200,
        by_epoch=True,
        begin=0,
        end=200,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type='finola_mm.ExactEpochLoop', max_epochs=200)

auto_scale_lr = dict(base_batch_size=256)
