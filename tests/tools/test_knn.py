"""tools/analysis/knn.py on plain coloured images, with features computed independently."""

import json
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

import finola_mm.selfsup  # noqa: F401
from finola_mm import MobileFormer
from finola_mm.evaluation import knn_accuracy, linear_accuracy
from finola_mm.registry import MODELS
from tests.messages import shows

SIZE = 64
NAMES = ('blue', 'green', 'red')


def colour(label, i, split):
    """Return a grey with a trace of the class's colour, which the encoder often confuses."""
    shade = [60 + 17 * i + 11 * (split == 'val')] * 3
    shade[2 - label] += 1 + i
    return tuple(shade)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp('shades')
    for split, count in (('train', 5), ('val', 4)):
        for label, name in enumerate(NAMES):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.new('RGB', (70, SIZE), colour(label, i, split))
                picture.save(root / split / name / f'{i}.png')
    return root


@pytest.fixture
def run(project_root, run_analysis, images, tmp_path):
    """Return a function of the arguments -> (accuracies, output), with the model of model.pth."""
    cfg = Config.fromfile('configs/demo/masked_finola_b.py')
    init_default_scope(cfg.default_scope)
    for split in ('train', 'val'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        loader.dataset.dataset.data_root = str(images)
    for transform in cfg.val_dataloader.dataset.pipeline:
        transform.update({key: SIZE for key in {'scale', 'crop_size'} & set(transform)})
    cfg.model.upsampler.depth = 1
    cfg.dump(tmp_path / 'config.py')
    torch.manual_seed(3)
    model = MODELS.build(cfg.model)
    use_statistics(model.backbone)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')

    def call(*args, file='model.pth'):
        """file: one name, or several separated by spaces."""
        out, files = tmp_path / 'out.json', [tmp_path / name for name in file.split()]
        printed = run_analysis('knn', tmp_path / 'config.py', *files, '--out', out, *args)
        return json.loads(out.read_text()), printed

    call.model = model
    return call


def use_statistics(encoder):
    """Set the BatchNorm statistics to those of the training images.

    All features of a random encoder have almost the same direction: their cosine similarities
    differ by less than float32 resolves. After this, those that decide differ by 0.001 or more.
    """
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        encoder.train()(plain_images('train', 5))


def plain_images(split, count):
    """Return the first ``count`` images (3 * count, 3, SIZE, SIZE) of each class, normalized."""
    shades = [colour(label, i, split) for label in range(3) for i in range(count)]
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    return ((torch.tensor(shades) - mean) / std)[:, :, None, None].expand(-1, -1, SIZE, SIZE)


def features(encoder, split, count):
    """Return (features, labels) of the first ``count`` images of each class."""
    labels = torch.arange(3).repeat_interleave(count)
    with torch.no_grad():
        (last,) = encoder.eval()(plain_images(split, count))
    return last.mean((2, 3)), labels


def test_against_features_computed_here(run):
    found, printed = run('--k', '1', '4', '15', '--linear', '--temperature', '0.2')
    encoder = run.model.backbone
    known, asked = features(encoder, 'train', 5), features(encoder, 'val', 4)
    expected = knn_accuracy(*known, *asked, ks=(1, 4, 15), temperature=0.2)
    for k, accuracy in expected.items():
        assert accuracy[0] < 90 and found['model.pth'][f'k = {k}'] == pytest.approx(accuracy)
    assert found['model.pth']['linear'] == pytest.approx(linear_accuracy(*known, *asked))
    assert '| encoder | k = 1 | k = 4 | k = 15 | linear |' in printed


def test_an_untrained_encoder(run, tmp_path):
    torch.manual_seed(5)
    torch.save(MobileFormer('small').state_dict(), tmp_path / 'encoder.pth')
    arguments = '--k', '1', '4', '15', '--linear', '--random', '--seed', '5'
    found, _ = run(*arguments, file='encoder.pth model.pth')
    assert found['random'] == found['encoder.pth'] != found['model.pth']


def test_a_part_of_the_bank(run):
    """Two of the five images of each class are used."""
    found, _ = run('--images', '6')
    assert list(found['model.pth']) == ['k = 1']  # the bank is too small for 10
    known, asked = features(run.model.backbone, 'train', 5), features(run.model.backbone, 'val', 4)
    index = [0, 2, 5, 7, 10, 12]
    expected = knn_accuracy(known[0][index], known[1][index], *asked, ks=(1,))
    assert found['model.pth']['k = 1'] == pytest.approx(expected[1])


def test_an_encoder_alone(run, tmp_path):
    torch.save(run.model.backbone.state_dict(), tmp_path / 'encoder.pth')
    alone, whole = run('--k', '3', file='encoder.pth')[0], run('--k', '3')[0]
    assert alone['encoder.pth'] == whole['model.pth']


def test_several_encoders(run, tmp_path):
    """Rows have the names of the files, or their paths if two names are equal."""
    torch.manual_seed(4)
    for name in ('encoder.pth', 'other/model.pth'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save(MobileFormer('small').state_dict(), tmp_path / name)
    alone = {
        name: list(run('--k', '3', '15', file=name)[0].values())
        for name in ('model.pth', 'encoder.pth', 'other/model.pth')
    }
    found, _ = run('--k', '3', '15', file='model.pth encoder.pth')
    assert [*found] == ['model.pth', 'encoder.pth']
    assert [*found.values()] == alone['model.pth'] + alone['encoder.pth']
    found, _ = run('--k', '3', '15', file='model.pth other/model.pth')
    assert [*found] == [str(tmp_path / 'model.pth'), str(tmp_path / 'other/model.pth')]
    assert [*found.values()] == alone['model.pth'] + alone['other/model.pth']


@pytest.mark.parametrize(
    'args, values',
    [
        (['--k', '16'], [16, 15]),
        (
            ['--cfg-options', 'val_dataloader.dataset.dataset.data_prefix=val/red'],
            ['val/red', 'ann_file'],
        ),
    ],
)
def test_one_message(run, args, values):
    with pytest.raises(SystemExit, match=shows('knn: ', *values)):
        run(*args)


def test_no_images(run, capsys):
    with pytest.raises(SystemExit):
        run('--images', '0')
    assert re.search(shows('--images', 0, 1), capsys.readouterr().err)


def test_another_encoder(run, tmp_path, capsys):
    """The results before the error are printed."""
    torch.save(MobileFormer('w720').state_dict(), tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match=shows('knn: ', tmp_path / 'other.pth', 'MobileFormer')):
        run('--k', '3', file='model.pth other.pth')
    assert '| model.pth | ' in capsys.readouterr().out
