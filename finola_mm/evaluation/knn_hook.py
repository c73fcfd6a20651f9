"""Judge an encoder during pre-training: kNN, linear classifier and effective rank of features."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from torch import Tensor
from torch.utils.data import Dataset

from ..datasets import LabelledData, evenly_spaced, labelled_data, preserve_rng_state
from ..engine.hooks.sync_buffers_hook import averaged_models
from ..engine.model import unwrap_model
from ..errors import NoLabelsError, UserError
from ..registry import HOOKS
from .features import check_features, encode_batches, gather_features, image_loader
from .knn import knn_vote_accuracy, topk_neighbors
from .linear_probe import linear_accuracy
from .rankme import rankme, second_moment


@HOOKS.register_module()
class KNNHook(Hook):
    """Log the kNN accuracy of validation images with training images as the bank.

    Evaluates every ``interval`` epochs or iterations and at the end. Logs ``knn/top1`` and
    ``knn/top5`` in percent, and ``features/rankme`` of the bank (rankme.py), also to the
    visualizer's back ends. The features are those of ``model.backbone`` (features.py), or of its
    average in MMEngine's ``EMAHook``. kNN follows DINO (knn.py).

    Training is unaffected: module modes, statistics and random states are restored. Every rank
    encodes its share of the images and keeps its share of the bank in main memory, 4 bytes x
    channels per image. Without labels, or with fewer images than neighbours, the hook does nothing
    and logs the reason.

    Args:
        interval (int): Epochs or iterations between two evaluations. Defaults to 1.
        by_epoch (bool): Whether ``interval`` counts epochs. Defaults to True.
        bank (dict, optional): Data set of the bank, with labels. By default the training images
            with their class folders, through the validation pipeline.
        queries (dict, optional): Data set of the images to classify. By default the validation
            images.
        bank_images (int, optional): Number of evenly spaced images of the bank to use. By default
            all.
        k (int): Number of neighbours. Defaults to 20.
        temperature (float): Temperature of their votes. Defaults to 0.07.
        linear (bool): Also fit a linear classifier to the bank (linear_probe.py), on rank 0, and
            log ``linear/top1`` and ``linear/top5``. This takes seconds for some thousand images of
            tens of classes, and is not meant for ImageNet. Defaults to False.
    """

    # Before IterTimerHook, which would count the evaluation as data time.
    priority = 'HIGH'

    def __init__(
        self,
        *,
        interval: int = 1,
        by_epoch: bool = True,
        bank: dict | None = None,
        queries: dict | None = None,
        bank_images: int | None = None,
        k: int = 20,
        temperature: float = 0.07,
        linear: bool = False,
    ):
        if k < 1:
            raise UserError(f'k of KNNHook is {k}; set it to 1 or more')
        if temperature <= 0:
            raise UserError(f'temperature of KNNHook is {temperature}; set it above 0')
        self.interval = interval
        self.by_epoch = by_epoch
        self.datasets = dict(bank=bank, queries=queries)
        self.bank_images = bank_images
        self.k = k
        self.temperature = temperature
        self.linear = linear
        self.data: LabelledData | None = None  # until a run with labels starts

    def before_train(self, runner) -> None:
        try:
            data = labelled_data(runner.cfg, **self.datasets)
            self.known = evenly_spaced(len(data.bank), self.bank_images)
            if self.k > len(self.known):
                raise NoLabelsError(f'k is {self.k}, but the bank has {len(self.known)} images')
            self.data = data
        except NoLabelsError as error:
            runner.logger.info(f'No kNN accuracy in this run: {error}')

    def after_train_epoch(self, runner) -> None:
        due = self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)
        if self.data and self.by_epoch and due:
            self.evaluate(runner, runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        due = self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)
        if self.data and not self.by_epoch and due:
            self.evaluate(runner, runner.iter + 1)

    def evaluate(self, runner, step: int) -> None:
        """Compute the accuracy of the current encoder, and log it for iteration ``step``."""
        assert self.data is not None  # set before training
        with preserve_rng_state():
            bank, bank_labels = self._encode(runner, self.data.bank, self.known)
            share = self._encode(runner, self.data.queries, range(len(self.data.queries)))
        queries, labels = (torch.cat(all_gather_object(part)) for part in share)
        queries = queries.to(next(runner.model.parameters()).device)
        # The nearest of this rank's bank (N, <= k), then those of all ranks (N, k).
        similarity, index = topk_neighbors(queries, bank, min(self.k, len(bank)))
        found = (similarity.cpu(), bank_labels[index.cpu()])
        similarity, classes = (torch.cat(all_gather_object(part), dim=1) for part in found)
        similarity, order = similarity.topk(self.k, dim=1)
        classes = classes.gather(1, order)
        top1, top5 = knn_vote_accuracy(similarity, classes, labels, temperature=self.temperature)
        runner.logger.info(
            f'kNN (k = {self.k}) after iteration {step}: top-1 {top1:.2f} %, top-5 {top5:.2f} % of '
            f'{len(labels)} images, bank of {len(self.known)} images'
        )
        rank = rankme(sum(all_gather_object(second_moment(bank))))
        runner.logger.info(f'RankMe of the bank: {rank:.1f} of {bank.shape[1]} channels')
        scalars = {'knn/top1': top1, 'knn/top5': top5, 'features/rankme': rank}
        if self.linear:
            scalars |= self._linear(runner, bank, bank_labels, queries, labels)
        runner.visualizer.add_scalars(scalars, step=step)

    def _linear(self, runner, bank, bank_labels, queries, labels) -> dict[str, float]:
        """Return the accuracies of a linear classifier of the whole bank; only rank 0 fits it."""
        whole = [torch.cat(all_gather_object(part)) for part in (bank, bank_labels)]
        if not is_main_process():
            return {}
        parts = [part.to(queries.device) for part in (*whole, queries, labels)]
        top1, top5 = linear_accuracy(*parts)
        runner.logger.info(f'linear classifier: top-1 {top1:.2f} %, top-5 {top5:.2f} %')
        return {'linear/top1': top1, 'linear/top5': top5}

    def _encode(self, runner, dataset: Dataset, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return features (n, C) and labels (n,) of this rank's share of the images."""
        train = runner.train_dataloader
        share = indices[get_rank() :: get_world_size()]
        loader = image_loader(
            dataset,
            share,
            batch_size=train.batch_size,
            num_workers=train.num_workers,
            worker_init_fn=train.worker_init_fn,  # InterruptionHook's: workers ignore signals
        )
        # EMAHook's averaged model if there is one, else the model.
        model: Any = (*averaged_models(runner), unwrap_model(runner.model))[0]
        encoded = encode_batches(model.backbone, model.data_preprocessor, loader)
        features, labels = gather_features(encoded, len(share))
        check_features(features, labels)
        return features, labels
