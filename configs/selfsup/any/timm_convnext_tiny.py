# Masked FINOLA-B with an encoder of timm, here ConvNeXt-T up to stride 16. Requires timm. For
# another encoder:
#   --cfg-options model.backbone.model_name=resnet50 model.backbone.out_indices="(3,)"
#
# out_indices counts the maps that timm.create_model(NAME, features_only=True).feature_info lists;
# choose one of stride 16. Models that return channels last (Swin) need feature_cls='getter', models
# of fixed size (ViT) dynamic_img_size=True.
# Measured   not yet run on ImageNet.
_base_ = ['../../_base_/masked_finola_any.py']

model = dict(
    backbone=dict(
        type='mmpretrain.TIMMBackbone',
        model_name='convnext_tiny',
        features_only=True,
        out_indices=(2,),
    )
)
