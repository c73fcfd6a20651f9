# Linear probing on objects12: photographed cut-outs of 12 classes on photographed backgrounds.
#
# The data are made by tools/dataset_converters/make_photos.py (docs/photos.md). The cut-out objects
# and the backgrounds of validation do not occur in training.
#
# Train      tools/train.py configs/photos/cls_lin.py --pretrained work_dirs/photos_masked_finola_b
# Test       without training:
#            tools/analysis/knn.py configs/photos/cls_lin.py work_dirs/photos_masked_finola_b
# Measured   not yet run.
_base_ = ['../demo/cls_lin.py']

data_root = '{{$FINOLA_PHOTOS:data/photos}}/cls/objects12'
missing_data_hint = (
    'Make it: python tools/dataset_converters/make_photos.py --out data/photos, or name its folder '
    'by the environment variable FINOLA_PHOTOS.'
)

train_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root)))
val_dataloader = dict(dataset=dict(dataset=dict(data_root=data_root)))
test_dataloader = val_dataloader

work_dir = 'work_dirs/photos_lin'
