# Supervised training of Mobile-Former-508M with its classifier, the largest of the ImageNet family.
#
# Paper      arXiv 2108.05895. Batch size, learning rate, epochs, weight decay, dropout, mixup,
#            RandAugment and erasing are those of the published training command. Warm-up and label
#            smoothing are not in it; they are those of ../supervised.py.
# Train      tools/dist_train.sh configs/classification/mobile_former/508m.py 8 --amp
#            8 GPUs x 128 images = batch size 1024. For a different total batch size, scale the
#            learning rate with --auto-scale-lr. Training time and memory: not yet measured.
# Official   tools/model_converters/mobile_former_to_finola.py CHECKPOINT OUT.pth --arch 508m
#            converts a published checkpoint; tools/test.py CONFIG OUT.pth tests it.
# Expected   79.3 top-1.
# Measured   not yet run on ImageNet.
_base_ = ['../supervised.py']

train_pipeline = _base_.train_pipeline
train_pipeline[3].update(erase_prob=0.2)
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

model = dict(
    backbone=dict(arch='508m', out_indices=(5,)),
    head=dict(
        _delete_=True,
        type='finola_mm.MobileFormerHead',
        num_classes=1000,
        in_channels=1440,
        token_channels=192,
        hidden_channels=1920,
        dropout=0.3,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

optim_wrapper = dict(optimizer=dict(weight_decay=0.2))
