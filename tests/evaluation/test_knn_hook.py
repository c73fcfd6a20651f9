"""The kNN accuracy during training, and that training is bit-identical without the hook."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.models import ResNet
from PIL import Image
from torch import nn
from torch.distributed import init_process_group

from finola_mm.backbones import MobileFormer
from finola_mm.datasets import evenly_spaced, labelled_data, nest_arguments
from finola_mm.errors import NoLabelsError
from finola_mm.evaluation import KNNHook, knn_accuracy, knn_hook, linear_accuracy
from finola_mm.evaluation.features import encode_batches, gather_features, global_pool
from finola_mm.necks import TransformerUpsampler
from finola_mm.registry import MODELS
from tests.forks import CONTEXT
from tests.messages import shows

CONFIG = 'configs/demo/masked_finola_b.py'
COLOURS = dict(blue=(20, 30, 200), green=(30, 200, 40), red=(210, 40, 30))


@MODELS.register_module(force=True)
class NoisyUpsampler(TransformerUpsampler):
    """Draws from the global stream in training, as dropout does."""

    def forward(self, z, keep=None):
        return super().forward(nn.functional.dropout(z, 0.1, self.training), keep)


@pytest.fixture(scope='session')
def coloured(tmp_path_factory):
    """Three classes of plain images of different colour; 12 for training, 6 for validation."""
    root = tmp_path_factory.mktemp('coloured')
    for split, count in (('train', 4), ('val', 2)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                shade = tuple(c + 5 * i for c in colour)
                Image.new('RGB', (70, 64), shade).save(root / split / name / f'{i}.png')
    return root


def settings(root, *, hook=None, loop='iterations', workers=0):
    """The demo at 64 x 64 pixels, 6 steps of 4 images: 2 epochs of the coloured images."""
    cfg = Config.fromfile(CONFIG)
    init_default_scope(cfg.default_scope)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=4, num_workers=workers, persistent_workers=workers > 0)
        loader.dataset.dataset.data_root = str(root)
        loader.dataset = nest_arguments(loader.dataset)
        for transform in loader.dataset.dataset.pipeline:
            for key in {'scale', 'crop_size'} & set(transform):
                transform[key] = 64
    if loop == 'epochs':
        cfg.train_cfg = dict(type='finola_mm.ExactEpochLoop', max_epochs=2, val_interval=9)
        cfg.train_dataloader.sampler = dict(type='finola_mm.SeededSampler', shuffle=True)
    else:
        cfg.train_cfg.update(max_iters=6, val_interval=9)
    cfg.model.upsampler.depth = 1
    cfg.param_scheduler = dict(type='ConstantLR', factor=1, by_epoch=False)
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=3, by_epoch=False)
    cfg.default_hooks.pop('knn')  # the config's own
    cfg.custom_hooks = [hook] if hook else []
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    cfg.log_level = 'ERROR'
    return cfg


def train(cfg, work_dir):
    """-> (runner, rows of scalars.json)"""
    cfg.work_dir, cfg.experiment_name = str(work_dir), work_dir.name
    runner = Runner.from_cfg(cfg)
    runner.train()
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    return runner, [json.loads(line) for line in scalars.read_text().splitlines()]


def losses(rows):
    return {row['step']: row['loss'] for row in rows if 'loss' in row}


def accuracies(rows):
    return {row['step']: (row['knn/top1'], row['knn/top5']) for row in rows if 'knn/top1' in row}


def state(runner):
    return {k: v for k, v in runner.model.state_dict().items()}


@pytest.mark.parametrize('workers', [0, 1])
def test_training_is_unaffected(project_root, coloured, tmp_path, workers):
    """Without SeedIterationHook: the random stream of the training must continue."""

    def with_noise(hook):
        cfg = settings(coloured, hook=hook, workers=workers)
        cfg.model.upsampler.type = 'finola_mm.NoisyUpsampler'
        return cfg

    hook = dict(type='finola_mm.KNNHook', interval=2, by_epoch=False, k=3)
    runner, rows = train(with_noise(hook), tmp_path / 'with')
    plain, expected = train(with_noise(None), tmp_path / 'without')
    assert losses(rows) == losses(expected) and len(losses(rows)) == 6
    assert all(
        torch.equal(a, b)
        for a, b in zip(state(runner).values(), state(plain).values(), strict=True)
    )
    found = accuracies(rows)
    assert set(found) == {2, 4, 6}
    assert all(top1 > 90 and top5 == 100 for top1, top5 in found.values())  # colours are easy


def test_resumed_run_logs_the_same(project_root, coloured, tmp_path):
    hook = dict(type='finola_mm.KNNHook', interval=2, by_epoch=False, k=3, temperature=0.5)
    _, whole = train(settings(coloured, hook=hook), tmp_path / 'whole')
    cfg = settings(coloured, hook=hook)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'whole' / 'iter_3.pth')
    _, rest = train(cfg, tmp_path / 'rest')
    assert accuracies(rest) == {k: v for k, v in accuracies(whole).items() if k > 3}
    assert losses(rest) == {k: v for k, v in losses(whole).items() if k > 3}


def test_epochs_and_the_end(project_root, coloured, tmp_path):
    hook = dict(type='finola_mm.KNNHook', interval=5, bank_images=6, k=3)
    runner, rows = train(settings(coloured, hook=hook, loop='epochs'), tmp_path)
    assert set(accuracies(rows)) == {6}
    # Two of the four images of each class.
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, KNNHook))
    labels = [hook.data.bank[i]['data_samples'].gt_label.item() for i in hook.known]
    assert labels == [0, 0, 1, 1, 2, 2]


def test_workers_start_as_those_of_training(project_root, coloured, monkeypatch):
    """They ignore the signals that InterruptionHook handles in the main process."""
    data = labelled_data(settings(coloured))
    train = SimpleNamespace(batch_size=4, num_workers=1, worker_init_fn=print)
    loaders = []

    def encode(encoder, preprocessor, loader):
        loaders.append(loader)
        yield torch.ones(4, 2), torch.zeros(4, dtype=torch.int64)

    monkeypatch.setattr(knn_hook, 'encode_batches', encode)
    KNNHook()._encode(
        SimpleNamespace(hooks=[], model=Model(), train_dataloader=train), data.bank, range(4)
    )
    assert loaders[0].worker_init_fn is print


def test_the_average_is_evaluated(project_root, coloured, tmp_path):
    cfg = settings(coloured, hook=dict(type='finola_mm.KNNHook', by_epoch=False, k=3))
    cfg.custom_hooks.append(dict(type='EMAHook'))
    runner = Runner.from_cfg({**cfg.to_dict(), 'work_dir': str(tmp_path), 'experiment_name': 'x'})
    runner.call_hook('before_run')
    (average,) = (hook.ema_model.module for hook in runner.hooks if hasattr(hook, 'ema_model'))
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, KNNHook))
    runner._train_loop = runner.build_train_loop(runner.train_loop)
    hook.before_train(runner)
    runner.model.backbone.forward = None  # must not be used
    nn.init.zeros_(average.backbone.out[0].weight)
    features, _ = hook._encode(runner, hook.data.bank, hook.known)
    assert (features == 0).all()


def test_without_labels_nothing_happens(project_root, image_folder, tmp_path):
    """train/ has class folders, val/ does not."""
    hook = dict(type='finola_mm.KNNHook', interval=2, by_epoch=False, k=3)
    runner, rows = train(settings(image_folder, hook=hook), tmp_path)
    assert not accuracies(rows) and len(losses(rows)) == 6


def test_configured_data_replaces_that_of_the_run(project_root, coloured, image_folder):
    """As in MoCo v2 without validation; the bank uses the pipeline of the queries."""
    cfg = settings(coloured)
    queries = cfg.val_dataloader.dataset.dataset.copy()
    queries.with_label = True
    cfg.val_dataloader = None
    data = labelled_data(cfg, queries=queries)
    assert (len(data.bank), len(data.queries)) == (12, 6)
    assert torch.equal(data.bank[0]['inputs'], data.queries[0]['inputs'])  # the same blue
    queries.data_root = str(image_folder)
    logged = []
    hook, logger = KNNHook(queries=queries, k=3), SimpleNamespace(info=logged.append)
    hook.before_train(SimpleNamespace(cfg=cfg, logger=logger))
    assert hook.data is None
    assert re.match(shows(image_folder / 'val', 'ann_file'), logged[0])


def test_labels_of_lists_and_missing_labels(project_root, coloured, tmp_path):
    cfg = settings(coloured)
    listed, bare = tmp_path / 'labels.txt', tmp_path / 'bare.txt'
    listed.write_text('red/0.png 2\nblue/1.png 0\n')
    bare.write_text('red/0.png\n')
    train_set = cfg.train_dataloader.dataset.dataset
    train_set.ann_file = str(listed)
    data = labelled_data(cfg)
    assert [data.bank[i]['data_samples'].gt_label.item() for i in range(2)] == [2, 0]
    train_set.ann_file = str(bare)
    with pytest.raises(NoLabelsError, match=shows('expected 2, got 1', 'ann_file')):
        labelled_data(cfg)
    train_set.update(ann_file='', data_prefix='.')
    with pytest.raises(NoLabelsError, match=shows('blue', 'train, val')):
        labelled_data(cfg)
    cfg.val_dataloader = None
    with pytest.raises(NoLabelsError, match=shows('--no-validate')):
        labelled_data(cfg)


def test_several_folders(project_root, coloured):
    """Both folders of a ConcatDataset are read with labels, through the validation pipeline."""
    cfg = settings(coloured)
    expected = labelled_data(cfg).bank
    folder = cfg.train_dataloader.dataset.dataset
    both = dict(type='ConcatDataset', datasets=[folder, folder])
    cfg.train_dataloader.dataset = dict(type='finola_mm.SeededDataset', dataset=both)
    bank = labelled_data(cfg).bank
    assert len(bank) == 2 * len(expected) == 24
    for i in range(24):
        found, one = bank[i], expected[i % 12]
        assert torch.equal(found['inputs'], one['inputs'])
        assert found['data_samples'].gt_label == one['data_samples'].gt_label
    assert not folder.get('with_label')  # the config of the run


def test_too_many_neighbours_and_none(project_root, coloured):
    """Few images are not an error: the hook is in every recipe."""
    logged = []
    hook, logger = KNNHook(), SimpleNamespace(info=logged.append)
    hook.before_train(SimpleNamespace(cfg=settings(coloured), logger=logger))
    assert hook.data is None
    (line,) = logged
    assert re.match(shows('kNN', 20, 12), line)
    with pytest.raises(ValueError, match=r'(?=.*\bk\b)(?=.*\b0\b)'):
        KNNHook(k=0)
    with pytest.raises(ValueError, match=shows('temperature', '0.0')):
        KNNHook(temperature=0.0)


def test_features_are_the_average_of_the_last_map():
    images = torch.rand(2, 3, 32, 64)
    encoder = MobileFormer('small', out_indices=(2, 4), with_tokens=True).train()
    encoder.stages[0].eval()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    labels = [SimpleNamespace(gt_label=torch.tensor([i])) for i in (3, 1)]
    batch = dict(inputs=images, data_samples=labels)
    ((features, found),) = encode_batches(encoder, lambda batch, training: batch, [batch])
    # Statistics and modes are restored, also where the modes of modules differ.
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert encoder.training and not encoder.stages[0].training
    with torch.no_grad():
        (_, last), _ = encoder.eval()(images)
    assert torch.equal(features, last.mean((2, 3))) and features.shape == (2, 256)
    assert found.tolist() == [3, 1]


def test_batches_are_gathered():
    parts = [(torch.rand(n, 3), torch.arange(n)) for n in (4, 4, 1)]
    features, labels = gather_features(iter(parts), 9)
    assert torch.equal(features, torch.cat([part for part, _ in parts]))
    assert labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_other_encoders():
    assert global_pool(ResNet(18), torch.rand(2, 3, 32, 32)).shape == (2, 512)
    for wrong, message in {
        torch.ones(2, 5, 7): '(2, 5, 7)',
        torch.ones(2, 5, dtype=torch.int64): 'torch.int64',
    }.items():
        encoder = nn.Identity()
        encoder.forward = lambda images, wrong=wrong: (images, wrong)
        with pytest.raises(ValueError, match=shows(message)):
            global_pool(encoder, torch.rand(2, 3, 8, 8))


def test_evenly_spaced():
    assert list(evenly_spaced(5, None)) == list(evenly_spaced(5, 9)) == [0, 1, 2, 3, 4]
    assert evenly_spaced(10, 4) == [0, 2, 5, 7]


def clusters():
    """A bank of 41 and queries of 17 vectors of 3 classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (58,), generator=generator)
    features = torch.nn.functional.one_hot(labels, 5) + torch.randn(58, 5, generator=generator)
    return features[:41], labels[:41], features[41:], labels[41:]


class Vectors:
    """A data set of vectors that are features already."""

    def __init__(self, features, labels):
        self.features, self.labels = features, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return dict(inputs=self.features[index], data_samples=self.labels[index])


class Model(nn.Linear):
    """A model with an encoder that returns its input."""

    def __init__(self):
        super().__init__(1, 1)
        self.backbone = nn.Identity()

    def data_preprocessor(self, batch, training):
        samples = [SimpleNamespace(gt_label=label[None]) for label in batch['data_samples']]
        return dict(batch, data_samples=samples)


def evaluate(k):
    """What the hook logs for the clusters on this rank."""
    bank, bank_labels, queries, labels = clusters()
    logged = []
    hook = KNNHook(k=k, linear=True)
    hook.data = SimpleNamespace(bank=Vectors(bank, bank_labels), queries=Vectors(queries, labels))
    hook.known = range(len(bank))
    hook.evaluate(
        SimpleNamespace(
            hooks=[],
            model=Model(),
            train_dataloader=SimpleNamespace(batch_size=4, num_workers=0, worker_init_fn=None),
            logger=SimpleNamespace(info=lambda text: None),
            visualizer=SimpleNamespace(add_scalars=lambda scalars, step: logged.append(scalars)),
        ),
        step=1,
    )
    return logged[0]


def in_process(rank, folder):
    init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    (folder / f'{rank}.json').write_text(json.dumps([evaluate(k) for k in (1, 5, 30)]))


def test_two_ranks_equal_one(tmp_path):
    """41 and 17 are odd; 30 neighbours exceed each rank's share of the bank.

    Only rank 0 fits the linear classifier.
    """
    # Forks of a clean process: after a fork, products hang if the parent's threads were in use.
    processes = [CONTEXT.Process(target=in_process, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    bank, bank_labels, queries, labels = clusters()
    accuracy = knn_accuracy(bank, bank_labels, queries, labels, ks=(1, 5, 30))
    linear = linear_accuracy(bank, bank_labels, queries, labels)
    share = torch.linalg.svdvals(bank.double())
    share /= share.sum()
    effective = torch.exp(torch.special.entr(share).sum()).item()
    for rank in range(2):
        rows = json.loads((tmp_path / f'{rank}.json').read_text())
        for row, k in zip(rows, (1, 5, 30), strict=True):
            assert (row['knn/top1'], row['knn/top5']) == pytest.approx(accuracy[k])
            assert row['features/rankme'] == pytest.approx(effective, rel=1e-4)
            found = (row.get('linear/top1'), row.get('linear/top5'))
            assert found == (pytest.approx(linear) if rank == 0 else (None, None))
