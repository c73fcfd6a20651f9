"""The layout and the pixels of the pictures of reconstructions."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from mmengine.visualization import MLflowVisBackend, Visualizer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from finola_mm.evaluation import ReconstructionHook, draw_reconstructions
from finola_mm.evaluation.reconstruction_hook import GAP, LABEL_WIDTH

SIZE = 8


def test_rows_and_columns():
    mask = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    mask[:, :4, :4] = False  # the top left is visible
    sample = BaseDataElement(
        original=torch.full((3, SIZE, SIZE), 0.2),
        reconstruction=torch.full((3, SIZE, SIZE), 1.7),  # out of range: clamped
        mask=mask,
    )
    picture = draw_reconstructions([sample, sample])
    x = LABEL_WIDTH + GAP + SIZE + GAP  # the second column
    assert picture.shape == (4 * SIZE + 3 * GAP, LABEL_WIDTH + 2 * (SIZE + GAP), 3)
    rows = [picture[y : y + SIZE, x : x + SIZE] for y in range(0, 4 * (SIZE + GAP), SIZE + GAP)]
    original, visible, prediction, composed = rows
    assert (original == 51).all() and (prediction == 255).all()
    masked = mask[0].numpy()
    assert (visible[~masked] == 51).all() and (visible[masked] == 128).all()
    assert (composed[~masked] == 51).all() and (composed[masked] == 255).all()
    assert picture.dtype == np.uint8


def test_whole_images_have_two_rows():
    sample = BaseDataElement(
        original=torch.full((3, SIZE, SIZE), 0.2),
        reconstruction=torch.full((3, SIZE, SIZE), 0.6),
        mask=torch.ones(1, SIZE, SIZE, dtype=torch.bool),
    )
    picture = draw_reconstructions([sample])
    assert picture.shape[0] == 2 * SIZE + GAP
    column = picture[:, LABEL_WIDTH + GAP :]
    assert (column[:SIZE] == 51).all() and (column[SIZE + GAP :] == 153).all()


class MLflow(MLflowVisBackend):
    """MMEngine's back end with a module ``mlflow`` that only stores images, as MLflow does."""

    def _init_env(self):
        self._mlflow = self
        self.MlflowException = OSError

    def close(self):
        pass

    def log_image(self, image, artifact_file):
        assert re.fullmatch(r'[\w.\- /]+', artifact_file)
        Image.fromarray(image).save(f'{self._save_dir}/{artifact_file}')  # format by suffix


@pytest.mark.parametrize('steps', [(4,), (4, 8)])
def test_every_back_end_gets_a_picture_of_each_validation(tmp_path, steps):
    names = ['LocalVisBackend', 'TensorboardVisBackend']
    backends = [*map(lambda name: dict(type=name), names), MLflow(str(tmp_path / 'flow'))]
    (tmp_path / 'flow').mkdir()
    visualizer = Visualizer('pictures', vis_backends=backends, save_dir=str(tmp_path))
    hook = ReconstructionHook()
    sample = BaseDataElement(
        original=torch.full((3, SIZE, SIZE), 0.2),
        reconstruction=torch.full((3, SIZE, SIZE), 0.6),
        mask=torch.ones(1, SIZE, SIZE, dtype=torch.bool),
    )
    for step in steps:
        runner = SimpleNamespace(visualizer=visualizer, iter=step, val_dataloader=[0])
        hook.after_val_iter(runner, 0, outputs=[sample])
        hook.after_val_epoch(runner)
    visualizer.close()
    expected = draw_reconstructions([sample])
    stored = [*tmp_path.glob('vis_data/vis_image/*'), *tmp_path.glob('flow/*')]
    assert len(stored) == 2 * len(steps)
    for path in stored:
        assert np.array_equal(np.asarray(Image.open(path)), expected), path
    events = EventAccumulator(str(tmp_path / 'vis_data')).Reload()
    assert [image.step for image in events.Images('reconstruction')] == list(steps)


@pytest.mark.parametrize('batches', [2, 20])
def test_only_the_pictures_drawn_are_kept(batches):
    """Of 20 batches, 8 evenly spaced ones; a sample is a view, which would keep its whole batch."""
    hook, levels = ReconstructionHook(), torch.arange(4 * batches) / (4 * batches)
    runner = SimpleNamespace(val_dataloader=range(batches))
    for number in range(batches):
        pixels = levels[4 * number : 4 * number + 4, None, None, None].expand(4, 3, SIZE, SIZE)
        mask = torch.ones(4, 1, SIZE, SIZE, dtype=torch.bool)
        fields = zip(pixels, pixels, mask, strict=True)
        samples = [BaseDataElement(original=o, reconstruction=r, mask=m) for o, r, m in fields]
        hook.after_val_iter(runner, number, outputs=samples)
    assert len(hook.kept) == 8
    assert all(isinstance(image, np.ndarray) for column in hook.kept for image in column.values())
    shown = {int(column['original'][0, 0, 0]) for column in hook.kept}
    assert len(shown) == 8 and min(shown) == 0 and max(shown) > 200  # from 0 to 252
