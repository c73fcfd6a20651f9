"""Unreadable files are replaced, logged once and counted; too many end the run."""

import errno
import json
import logging
import os
import random
import re
import time

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from finola_mm.datasets import SampleKey, SeededDataset, SeededSampler
from finola_mm.errors import BadDataError
from tests.messages import shows


class Numbers(BaseDataset):
    """``count`` samples, of which those in ``bad`` raise and those in ``none`` are None."""

    def __init__(self, count, bad=(), none=()):
        self.count, self.bad, self.none = count, set(bad), set(none)
        super().__init__(pipeline=[self.draw])

    def load_data_list(self):
        return [dict(img_path=f'{i}.jpg') for i in range(self.count)]

    def draw(self, results):
        index = results['sample_idx']
        draws = random.random(), np.random.rand(), torch.rand(()).item()
        if index in self.bad:
            raise OSError(f'torn\nfile {index}')
        return None if index in self.none else (index, *draws)


@pytest.fixture
def log(tmp_path):
    """A current logger with a file; returns the warnings in the file."""
    name = f'bad_samples_{tmp_path.name}'
    file = tmp_path / 'run.log'
    logger = MMLogger.get_instance(name, log_file=str(file))
    logger.info('an earlier line')
    yield lambda: [line for line in file.read_text().splitlines() if 'WARNING' in line]
    logging.shutdown([lambda handler=handler: handler for handler in logger.handlers])
    MMLogger._instance_dict.pop(name)


def load(dataset, epochs=1, **kwargs):
    """All samples of some epochs, by their index in the data set."""
    sampler = SeededSampler(dataset, seed=5)
    loader = DataLoader(dataset, 3, sampler=sampler, collate_fn=list, **kwargs)
    seen = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        places = [key.sample_idx for key in sampler]
        samples = [sample for batch in loader for sample in batch]
        seen.append(dict(zip(places, samples, strict=True)))
    return seen


def test_another_sample_replaces_a_bad_one(log):
    whole = SeededDataset(Numbers(30))
    holed = SeededDataset(Numbers(30, bad=[4], none=[17]), max_bad_share=0.1)
    for epoch in range(20):
        for index in range(30):
            key = SampleKey(1, epoch, index)
            if index in (4, 17):
                assert holed[key][0] not in (4, 17)
                assert holed[key] == SeededDataset(holed.dataset, max_bad_share=0.1)[key]
            else:
                assert holed[key] == whole[key]
    replacements = {holed[SampleKey(1, epoch, 4)][0] for epoch in range(20)}
    assert len(replacements) > 8  # of 28: not always the same neighbour
    assert holed.bad_samples.names == ['4.jpg', '17.jpg']
    assert (holed.bad_samples.num_bad, holed.bad_samples.num_seen) == (2, 30)


def test_the_replacement_is_no_twin_of_its_original(log):
    """Same image, another crop: a replacement has its own random stream."""
    dataset = SeededDataset(Numbers(30, bad=[4]), max_bad_share=0.1)
    index, *draws = dataset[SampleKey(0, 0, 4)]
    assert list(dataset[SampleKey(0, 0, index)][1:]) != draws


@pytest.mark.parametrize(
    'kwargs',
    [dict(), dict(num_workers=2), dict(num_workers=2, persistent_workers=True)],
    ids=str,
)
def test_logged_once_for_any_number_of_workers(kwargs, log):
    dataset, alone = (
        SeededDataset(Numbers(30, bad=[4], none=[17]), max_bad_share=0.1) for _ in range(2)
    )
    loaded = load(dataset, epochs=3, **kwargs)
    first, second = sorted(log(), key=lambda line: '4.jpg' in line)
    assert '17.jpg' in first and 'None' in first
    assert re.match(shows('4.jpg', 'OSError: torn file 4', 'test_bad_samples.py'), second)
    assert dataset.bad_samples.names == ['4.jpg', '17.jpg']
    assert dataset.bad_samples.num_seen == 30
    assert loaded == load(alone, epochs=3)


def test_spawned_workers_share_states(tmp_path, image_folder):
    (tmp_path / 'empty.jpg').touch()
    good = str(image_folder / 'val' / '0.jpg')
    files = [dict(img_path=path) for path in [good, str(tmp_path / 'empty.jpg'), good]]
    (tmp_path / 'list.json').write_text(json.dumps(dict(metainfo={}, data_list=files)))
    inner = BaseDataset(str(tmp_path / 'list.json'), data_prefix={}, pipeline=[LoadImageFromFile()])
    dataset = SeededDataset(inner, max_bad_share=1)
    loader = DataLoader(dataset, 3, collate_fn=list, num_workers=1, multiprocessing_context='spawn')
    assert len(next(iter(loader))) == 3
    assert dataset.bad_samples.names == [str(tmp_path / 'empty.jpg')]


def test_too_many_end_the_run(log):
    dataset = SeededDataset(Numbers(2000, bad=range(500, 2000)), max_bad_share=0.01)
    for index in range(500):
        dataset[index]
    for index in range(500, 510):  # 10 of at least 1000 are 1 %
        dataset.bad_samples.add_bad(index, OSError('torn'))
    with pytest.raises(BadDataError) as caught:
        dataset.bad_samples.add_bad(510, OSError('torn'))
    message = str(caught.value)
    assert re.match(r'(?=.*\b11\b)(?=.*\b511\b)', message)
    assert 'OSError: torn' in message and '508.jpg' in message and 'max_bad_share' in message


def test_the_share_is_of_those_seen(log):
    dataset = SeededDataset(Numbers(3000), max_bad_share=0.01)
    dataset.bad_samples.states[:2000] = 1
    for index in range(2000, 2020):  # 20 of 2020 is below 1 %, 21 of 2021 above
        dataset.bad_samples.add_bad(index, OSError())
    with pytest.raises(BadDataError, match=r'(?=.*\b21\b)(?=.*\b2021\b)'):
        dataset.bad_samples.add_bad(2020, OSError())


def test_nothing_tolerated(log):
    dataset = SeededDataset(Numbers(30, bad=[4]), max_bad_share=0)
    dataset[3]
    with pytest.raises(BadDataError, match=shows('4.jpg') + r'(?=.*\b1\b)(?=.*\b2\b)'):
        dataset[4]


def test_all_bad_is_one_readable_line(log):
    dataset = SeededDataset(Numbers(3000, bad=range(3000)), max_bad_share=1)
    with pytest.raises(BadDataError) as caught:
        load(dataset)
    message = str(caught.value)
    assert re.match(shows(3000, 'OSError: torn file') + r'(?=.*\b10\b)', message)
    assert '\n' not in message
    # torch's re-raise in the main process; a real worker takes seconds to end.
    with pytest.raises(BadDataError) as again:
        raised = caught.type, caught.value, caught.tb
        ExceptionWrapper(raised, 'in DataLoader worker process 0').reraise()
    assert str(again.value) == message


@pytest.fixture
def naps(monkeypatch):
    """The seconds of each sleep, which returns at once."""
    slept = []
    monkeypatch.setattr(time, 'sleep', slept.append)
    return slept


class Away(Numbers):
    """After drawing, the first ``failures`` samples fail with an error number."""

    def __init__(self, number, failures):
        self.number, self.failures = number, failures
        super().__init__(30)

    def draw(self, results):
        sample = super().draw(results)
        if self.failures:
            self.failures -= 1
            raise OSError(self.number, os.strerror(self.number), results['img_path'])
        return sample


@pytest.mark.parametrize('number', [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET])
def test_an_outage_is_retried(number, naps, log):
    """The sample is bit-identical to that without an outage."""
    key = SampleKey(1, 2, 7)
    dataset = SeededDataset(Away(number, failures=3), max_bad_share=0)
    assert dataset[key] == SeededDataset(Numbers(30))[key]
    assert naps == [1, 5, 30]
    assert dataset.bad_samples.num_bad == 0
    assert len(log()) == 3
    assert '7.jpg' in log()[1] and '5 s' in log()[1]


def test_an_outage_that_lasts_is_a_bad_sample(naps, log):
    dataset = SeededDataset(Away(errno.EIO, failures=4), max_bad_share=1)
    assert dataset[7][0] != 7
    assert naps == [1, 5, 30]
    assert dataset.bad_samples.names == ['7.jpg']


@pytest.mark.parametrize('number', [errno.ENOENT, errno.EACCES])
def test_a_missing_file_is_not_retried(number, naps, log):
    SeededDataset(Away(number, failures=1), max_bad_share=1)[7]
    assert naps == []


@pytest.mark.parametrize('error', [BadDataError('enough'), MemoryError()], ids=repr)
def test_not_every_error_is_a_bad_file(error, log):
    class Failing(Numbers):
        def draw(self, results):
            raise error

    dataset = SeededDataset(Failing(30), max_bad_share=1)
    with pytest.raises(type(error)):
        dataset[0]
    assert dataset.bad_samples.num_bad == 0


def test_the_error_gives_reasons_of_samples_counted_by_another_process(log):
    """A sample already counted by a worker still gives a reason in this process."""
    dataset = SeededDataset(Numbers(30, bad=range(30)), max_bad_share=1)
    dataset.bad_samples.states.fill_(2)
    with pytest.raises(BadDataError, match='OSError: torn file'):
        dataset[0]
    assert log() == []


def test_no_share_beyond_one():
    with pytest.raises(ValueError, match=shows('max_bad_share', 1.5)):
        SeededDataset(Numbers(3), max_bad_share=1.5)


def test_the_end_of_the_data_set_is_no_bad_sample():
    dataset = SeededDataset(Numbers(5), max_bad_share=0)
    assert [sample[0] for sample in dataset] == [0, 1, 2, 3, 4]


@pytest.fixture
def coco(tmp_path, image_folder):
    """A COCO file of five images: one good, one missing, one empty, one truncated, one good."""
    data = (image_folder / 'val' / '0.jpg').read_bytes()
    for name, content in {'0': data, '2': b'', '3': data[: len(data) // 2], '4': data}.items():
        (tmp_path / f'{name}.jpg').write_bytes(content)
    coco = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=90, height=70) for i in range(5)],
        annotations=[
            dict(id=i, image_id=i, category_id=1, bbox=[9, 9, 30, 20], area=600, iscrowd=0)
            for i in range(5)
        ],
        categories=[dict(id=1, name='thing')],
    )
    (tmp_path / 'coco.json').write_text(json.dumps(coco))
    return tmp_path


def test_a_data_set_of_mmdet(coco, log):
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, RandomFlip

    inner = CocoDataset(
        ann_file='coco.json',
        data_root=str(coco),
        metainfo=dict(classes=('thing',)),
        data_prefix=dict(img=''),
        pipeline=[
            LoadImageFromFile(imdecode_backend='pillow'),  # detects a truncated file, unlike cv2
            LoadAnnotations(with_bbox=True),
            RandomFlip(prob=0.5),
            PackDetInputs(),
        ],
    )
    dataset = SeededDataset(inner, max_bad_share=0.6)
    for index in range(5):
        sample = dataset[SampleKey(0, 0, index)]['data_samples']
        assert sample.img_id == index if index in (0, 4) else sample.img_id in (0, 4)
        assert len(sample.gt_instances) == 1
    assert dataset.bad_samples.names == [str(coco / f'{i}.jpg') for i in (1, 2, 3)]
    reasons = '\n'.join(log())
    assert 'FileNotFoundError' in reasons and 'truncated' in reasons


def test_batches_of_one_aspect_ratio(coco):
    """mmdet's sampler passes our sampler's keys to the data set."""
    from mmdet.datasets import AspectRatioBatchSampler, CocoDataset

    listed = json.loads((coco / 'coco.json').read_text())
    for image in listed['images'][:2]:
        image.update(width=70, height=90)
    (coco / 'coco.json').write_text(json.dumps(listed))
    dataset = SeededDataset(
        CocoDataset(
            ann_file='coco.json',
            data_root=str(coco),
            metainfo=dict(classes=('thing',)),
            data_prefix=dict(img=''),
        )
    )
    sampler = SeededSampler(dataset, seed=3)
    batches = list(AspectRatioBatchSampler(sampler, 2))
    assert sorted(key for batch in batches for key in batch) == sorted(sampler)
    shapes = [{key.sample_idx < 2 for key in batch} for batch in batches]
    assert {True} in shapes and {False} in shapes
