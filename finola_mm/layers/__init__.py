"""Layers that depend only on torch: ``nn.Module`` classes, one file per box in the figures."""

from .attentional_pooling import AttentionalPooling
from .autocast import LayerNorm, call_in_autocast_dtype, without_autocast
from .checkpointing import checkpoint_module
from .finola import FINOLALayer
from .mobile import BneckLite, ChannelShuffle, DynamicReLU, Mobile, MobileDown, depthwise, pointwise
from .mobile_former import Former, FormerToMobile, MobileFormerBlock, MobileToFormer
from .mobile_former_decoder import MobileFormerDecoder
from .plane_wave_pooling import PlaneWavePooling
from .transformer import TransformerBlock
from .upsampler import ResConv, UpConv, norm_silu_conv

__all__ = [
    'AttentionalPooling',
    'BneckLite',
    'ChannelShuffle',
    'DynamicReLU',
    'FINOLALayer',
    'Former',
    'FormerToMobile',
    'LayerNorm',
    'Mobile',
    'MobileDown',
    'MobileFormerBlock',
    'MobileFormerDecoder',
    'MobileToFormer',
    'PlaneWavePooling',
    'ResConv',
    'TransformerBlock',
    'UpConv',
    'call_in_autocast_dtype',
    'checkpoint_module',
    'depthwise',
    'norm_silu_conv',
    'pointwise',
    'without_autocast',
]
