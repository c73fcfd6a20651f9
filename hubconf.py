"""Entry points of torch.hub: ``torch.hub.load('FOLDER', 'encoder', NAME, source='local')``."""

dependencies = ['torch', 'mmengine', 'mmcv']


def encoder(source: str):
    """Load a trained encoder, see ``finola_mm.load_encoder``."""
    import finola_mm

    return finola_mm.load_encoder(source)


def detector(source: str, config: str | None = None):
    """Load a trained detector, see ``finola_mm.load_detector``. Requires mmdet."""
    import finola_mm

    return finola_mm.load_detector(source, config)


def mobile_former(arch: str, **kwargs):
    """Build an encoder with random weights, see ``finola_mm.MobileFormer``."""
    import finola_mm

    return finola_mm.MobileFormer(arch, **kwargs)
