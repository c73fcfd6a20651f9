"""Layers: plain modules on torch alone."""

from .attentional_pooling import AttentionalPooling
from .bneck_lite import BneckLite
from .checkpointing import checkpoint_module
from .conv_bn import depthwise, pointwise
from .dynamic_relu import DynamicReLU
from .finola import FINOLALayer
from .former import Former
from .former_to_mobile import FormerToMobile
from .mobile import Mobile, MobileDown
from .mobile_former import MobileFormerBlock
from .mobile_former_decoder import MobileFormerDecoder
from .mobile_to_former import MobileToFormer
from .prediction import predicts_on_cpu
from .transformer import TransformerBlock
from .upsampler import ResConv, UpConv, norm_silu_conv

__all__ = [
    'AttentionalPooling',
    'FINOLALayer',
    'BneckLite',
    'DynamicReLU',
    'Former',
    'FormerToMobile',
    'Mobile',
    'MobileDown',
    'MobileFormerBlock',
    'MobileFormerDecoder',
    'MobileToFormer',
    'ResConv',
    'TransformerBlock',
    'UpConv',
    'depthwise',
    'norm_silu_conv',
    'pointwise',
    'predicts_on_cpu',
    'checkpoint_module',
]
