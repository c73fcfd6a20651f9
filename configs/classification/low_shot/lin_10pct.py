# Linear probing with 10 % of ImageNet's labels (128 images per class), Mobile-Former W2880;
# batch size 1024 instead of 4096.
# Train      python tools/dataset_converters/draw_low_shot.py data/imagenet/train 10
#            tools/dist_train.sh configs/classification/low_shot/lin_10pct.py 8 \
#                --pretrained CHECKPOINT --amp
#            8 GPUs x 128 images = batch size 1024.
# Expected   not given in the paper.
# Measured   not yet run on ImageNet.
_base_ = ['../lin.py']

missing_data_hint = (
    f'Draw the list: python tools/dataset_converters/draw_low_shot.py {_base_.data_root}/train 10'
)

train_dataloader = dict(
    batch_size=128, dataset=dict(dataset=dict(ann_file='low_shot/train_10pct.txt'))
)

optim_wrapper = dict(optimizer=dict(lr=0.1 * 1024 / 256))

auto_scale_lr = dict(base_batch_size=1024)
