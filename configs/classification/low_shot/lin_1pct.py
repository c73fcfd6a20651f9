# Linear probing with 1 % of ImageNet's labels (13 images per class), Mobile-Former W2880; batch
# size 256 instead of 4096.
# Train      python tools/dataset_converters/draw_low_shot.py data/imagenet/train 1
#            tools/dist_train.sh configs/classification/low_shot/lin_1pct.py 8 \
#                --pretrained CHECKPOINT --amp
#            8 GPUs x 32 images = batch size 256.
# Expected   not given in the paper.
# Measured   not yet run on ImageNet.
_base_ = ['../lin.py']

missing_data_hint = (
    f'Draw the list: python tools/dataset_converters/draw_low_shot.py {_base_.data_root}/train 1'
)

train_dataloader = dict(
    batch_size=32, dataset=dict(dataset=dict(ann_file='low_shot/train_1pct.txt'))
)

optim_wrapper = dict(optimizer=dict(lr=0.1 * 256 / 256))

auto_scale_lr = dict(base_batch_size=256)
