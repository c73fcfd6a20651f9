"""Structural similarity of two images.

Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004), by
scikit-image: Gaussian window of sigma 1.5, 11 x 11 pixels, population variances, K1 = 0.01 and
K2 = 0.03. That paper compares grey images; here it is the mean over the three colours.
"""

from torch import Tensor

WINDOW = 11  # pixels


def ssim(pred: Tensor, target: Tensor) -> float:
    """SSIM of one image, at most 1; pred, target (3, H, W), clamped to [0, 1], H and W >= 11.

    Raises:
        ValueError: for smaller images.
    """
    from skimage.metrics import structural_similarity  # 0.4 s that only a test of images needs

    if min(target.shape[1:]) < WINDOW:
        raise ValueError(
            f'SSIM compares windows of {WINDOW} x {WINDOW} pixels, more than the image of '
            f'{target.shape[1]} x {target.shape[2]}; use larger images'
        )
    images = (image.detach().double().clamp(0, 1).cpu().numpy() for image in (pred, target))
    return float(
        structural_similarity(
            *images,
            channel_axis=0,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )
