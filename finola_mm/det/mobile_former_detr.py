"""Mobile-Former in DETR: an encoder and a decoder of Mobile-Former blocks.

Paper: arXiv 2305.16319, Section 5 and Appendix; the framework is DETR
(arXiv 2005.12872) without its transformer encoder.

Legend: N images of H x W pixels, B blocks of the decoder, Q queries of width D; mask: True =
padding.
"""

import torch
from mmdet.models import BaseDetector
from mmdet.structures import OptSampleList, SampleList
from torch import Tensor

from ..errors import UserError, as_user_error
from ..functional import copy_to_device, downsample_mask, make_padding_mask
from ..layers import MobileFormerDecoder, call_in_autocast_dtype
from ..registry import MODELS


@MODELS.register_module()
class MobileFormerDETR(BaseDetector):
    """Detect objects with queries that a Mobile-Former decoder refines from coarse to fine.

    Args:
        backbone (dict): ``MobileFormer`` with ``out_indices=(2, 4)``, its maps at strides 8 and 16.
        decoder (dict): Arguments of :class:`~finola_mm.layers.MobileFormerDecoder`: arch,
            in_channels, num_queries, dropout.
        bbox_head (dict): ``MobileFormerDETRHead``.
        train_cfg (dict, optional): For the head, with the ``assigner``; by default DETR's matcher.
        test_cfg (dict, optional): For the head; ``max_per_img`` defaults to the number of queries.
        data_preprocessor (dict, optional): ``DetDataPreprocessor``, ours or mmdet's.
        init_cfg (dict, optional): MMEngine initialization config.

    Raises:
        UserError: ``test_cfg.max_per_img`` exceeds the number of queries.
    """

    def __init__(
        self,
        backbone: dict,
        decoder: dict,
        bbox_head: dict,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        with as_user_error():
            self.decoder = MobileFormerDecoder(**decoder)
        queries = self.decoder.num_queries
        test_cfg = test_cfg or dict(max_per_img=queries)
        if test_cfg.get('max_per_img', queries) > queries:
            raise UserError(
                f'test_cfg.max_per_img must be at most decoder.num_queries={queries}, got '
                f'{test_cfg["max_per_img"]}'
            )
        head = dict(bbox_head, test_cfg=test_cfg, embed_dims=self.decoder.dim)
        self.bbox_head = MODELS.build(head | dict(train_cfg=train_cfg) if train_cfg else head)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Images (N, 3, H, W) and their objects -> the losses of every block."""
        queries = self.refine(batch_inputs, batch_data_samples)  # (B, N, Q, D)
        return self.bbox_head.loss(queries, batch_data_samples)

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the scalars, and them and the sum for the log.

        MMEngine's method averages and adds each of up to 27 losses by kernels of its own.
        """
        total = torch.stack([*losses.values()]).sum()
        return total, dict(loss=total, **losses)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Images (N, 3, H, W) -> data samples with ``pred_instances``, sorted by score.

        ``rescale``: return boxes in pixels of the image file, not of the resized image.
        """
        queries = self.refine(batch_inputs, batch_data_samples)  # (B, N, Q, D)
        results = self.bbox_head.predict(queries, batch_data_samples, rescale=rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None
    ) -> tuple[Tensor, Tensor]:
        """mmdet's mode 'tensor': class scores and boxes of every block, as from the head."""
        return self.bbox_head(self.refine(batch_inputs, batch_data_samples))

    def refine(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> Tensor:
        """Images (N, 3, H, W) -> the queries after every block, (B, N, Q, D)."""
        padding_mask = self.padding_mask(batch_inputs, batch_data_samples)  # (N, H, W) or None
        feats = self.extract_feat(batch_inputs, padding_mask)  # strides 8 and 16
        return call_in_autocast_dtype(self.decoder, feats, downsample_mask(padding_mask, 8))

    def extract_feat(
        self, batch_inputs: Tensor, padding_mask: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Images (N, 3, H, W) and their padding mask -> the encoder's maps."""
        if padding_mask is not None:
            padding_mask = copy_to_device(padding_mask, batch_inputs.device)
        return call_in_autocast_dtype(self.backbone, batch_inputs, padding_mask)

    @staticmethod
    def padding_mask(batch_inputs: Tensor, batch_data_samples: OptSampleList) -> Tensor | None:
        """Mark the padding of the batch, (N, H, W) with True = padding; None if there is none.

        The mask is on the CPU.
        """
        if not batch_data_samples:
            return None
        sizes = [sample.img_shape[:2] for sample in batch_data_samples]
        return make_padding_mask(sizes, batch_inputs.shape[2:])
