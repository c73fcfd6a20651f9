"""How good the features are so far: accuracy of the nearest neighbours, while pre-training."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from torch import Tensor, nn

from ..datasets import NoLabelsError, labelled_data
from ..engine.hooks.interruption_hook import ignore_signals_in_workers
from ..engine.hooks.sync_buffers_hook import averaged_models, trained_model
from ..registry import HOOKS
from .features import encode_batches, evenly_spaced, gather_features, image_loader
from .knn import check_features, knn_vote_accuracy, topk_neighbors


@HOOKS.register_module()
class KNNHook(Hook):
    """Log how often the nearest training images know the class of a validation image.

    Every ``interval`` epochs or iterations, and at the end: ``knn/top1`` and ``knn/top5`` in
    percent, at the iteration's place among the losses of the log, its JSON file and the other
    backends of the visualizer. The features are those of ``model.backbone`` (features.py); with
    mmengine's ``EMAHook`` those of its average. kNN as in DINO (finola_mm/evaluation/knn.py).

    The run goes on as if nothing had been: modes, statistics and random streams are those of
    before. Every process encodes its share of the images and keeps its share of the bank,
    4 bytes x channels an image in the machine's memory. Without labels, or with fewer images than
    neighbours, nothing is done, and the log says why.

    Args:
        interval (int): Epochs or iterations between two evaluations. Defaults to 1.
        by_epoch (bool): Whether ``interval`` counts epochs. Defaults to True.
        bank (dict, optional): Data set of the known images, with labels. By default the training
            images with their class folders, through the validation's pipeline.
        queries (dict, optional): Data set of the images to classify. By default the validation
            images.
        bank_images (int, optional): Take so many of the bank's images, from all over it. By
            default all.
        k (int): Neighbours. Defaults to 20.
        temperature (float): Of their votes. Defaults to 0.07.
    """

    # Before IterTimerHook, so that the evaluation is not taken for time of loading.
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
    ):
        if k < 1:
            raise ValueError(f'KNNHook: k is {k}; expected 1 neighbour or more')
        if temperature <= 0:
            raise ValueError(f'KNNHook: temperature is {temperature}; expected more than 0')
        self.interval = interval
        self.by_epoch = by_epoch
        self.datasets = dict(bank=bank, queries=queries)
        self.bank_images = bank_images
        self.k = k
        self.temperature = temperature
        self.data = None  # until a run with labels starts

    def before_train(self, runner) -> None:
        try:
            data = labelled_data(runner.cfg, **self.datasets)
            self.known = evenly_spaced(len(data.bank), self.bank_images)
            if self.k > len(self.known):
                raise NoLabelsError(f'k is {self.k}, and the bank has {len(self.known)} images')
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
        """Compute the accuracy of the encoder as it is, and log it for iteration ``step``."""
        with preserve_rng_state():
            bank, bank_labels = self._encode(runner, self.data.bank, self.known)
            share = self._encode(runner, self.data.queries, range(len(self.data.queries)))
        queries, labels = (torch.cat(all_gather_object(part)) for part in share)
        similarity, classes = self._nearest(queries.to(device_of(runner)), bank, bank_labels)
        top1, top5 = knn_vote_accuracy(similarity, classes, labels, temperature=self.temperature)
        runner.logger.info(
            f'kNN (k = {self.k}) after iteration {step}: top-1 {top1:.2f} %, top-5 {top5:.2f} % of '
            f'{len(labels)} images, by {len(self.known)} known ones'
        )
        runner.visualizer.add_scalars({'knn/top1': top1, 'knn/top5': top5}, step=step)

    def _encode(self, runner, dataset, indices) -> tuple[Tensor, Tensor]:
        """Features (n, C) and labels (n,) of this process's share of the images."""
        train = runner.train_dataloader
        share = indices[get_rank() :: get_world_size()]
        loader = image_loader(
            dataset,
            share,
            batch_size=train.batch_size,
            num_workers=train.num_workers,
        )
        ignore_signals_in_workers(loader)
        model = eval_model(runner)
        encoded = encode_batches(model.backbone, model.data_preprocessor, loader)
        features, labels = gather_features(encoded, len(share))
        check_features(features, labels)
        return features, labels

    def _nearest(self, queries: Tensor, bank: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Similarities and classes (N, k) of the nearest in the shares of all processes."""
        similarity, index = topk_neighbors(queries, bank, min(self.k, len(bank)))
        found = (similarity.cpu(), labels[index.cpu()])  # (N, k) of this share
        similarity, classes = (torch.cat(all_gather_object(part), dim=1) for part in found)
        similarity, order = similarity.topk(self.k, dim=1)
        return similarity, classes.gather(1, order)


def eval_model(runner) -> nn.Module:
    """The model whose encoder is judged: where weights are averaged, the average of them."""
    return (*averaged_models(runner), trained_model(runner))[0]


def device_of(runner) -> torch.device:
    return next(runner.model.parameters()).device


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Python's, NumPy's and torch's CPU generators end as they began; the device's is not used."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
