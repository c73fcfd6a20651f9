"""From a pre-training checkpoint to the probe, from the probe to fine-tuning, by the tools."""

import json
import re
import runpy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from tests.classification.conftest import ROOT, options, run_tool
from tests.messages import shows


@pytest.fixture(scope='module', autouse=True)
def project_root():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(ROOT)
        yield ROOT


def state(path):
    """The tensors of a checkpoint or, of a work directory, of its last one."""
    if path.is_dir():
        path = Path((path / 'last_checkpoint').read_text())
    return torch.load(path, weights_only=False)['state_dict']


def logged(work_dir):
    """The rows of scalars.json, by step."""
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in scalars.read_text().splitlines()]


@pytest.fixture(scope='module')
def probes(labelled_folder, pretrained, tmp_path_factory):
    """Work directories of cls_lin and cls_tran1 after three steps on the pre-trained encoder."""
    folder = tmp_path_factory.mktemp('probes')
    for name in ('cls_lin', 'cls_tran1'):
        run_tool(
            'train',
            f'configs/demo/{name}.py',
            '--work-dir',
            folder / name,
            '--pretrained',
            pretrained,
            '--cfg-options',
            *options(labelled_folder),
        )
    return folder


@pytest.mark.parametrize('name', ['cls_lin', 'cls_tran1'])
def test_frozen_means_every_bit(probes, pretrained, name):
    """Weights and BatchNorm's buffers of the encoder after training are those of the file."""
    before, after = state(pretrained), state(probes / name)
    encoder = {key: value for key, value in before.items() if key.startswith('backbone.')}
    assert encoder.keys() == {key for key in after if key.startswith('backbone.')}
    assert any('num_batches_tracked' in key for key in encoder)
    for key, value in encoder.items():
        assert torch.equal(after[key], value), key


@pytest.mark.parametrize('name, count', [('cls_lin', 1), ('cls_tran1', 9)])
def test_the_decoder_trains(probes, name, count):
    """Every bias of a head starts at 0."""
    biases = {
        key: value
        for key, value in state(probes / name).items()
        if key.startswith('head.') and key.endswith('bias')
    }
    assert len(biases) == count
    assert all((value != 0).any() for value in biases.values())


@pytest.mark.parametrize('name', ['cls_lin', 'cls_tran1'])
def test_test_gives_the_accuracy_that_training_logged(probes, labelled_folder, tmp_path, name):
    out = tmp_path / 'metrics.json'
    run_tool(
        'test',
        f'configs/demo/{name}.py',
        probes / name,
        '--work-dir',
        tmp_path / 'test',
        '--out',
        out,
        '--show-dir',
        tmp_path / 'show',
        '--cfg-options',
        *options(labelled_folder, 'default_hooks.visualization.interval=6'),
    )
    metrics = json.loads(out.read_text())
    row = logged(probes / name)[-1]
    assert metrics['accuracy/top1'] == row['accuracy/top1']
    assert metrics['accuracy/top5'] == row['accuracy/top5']
    assert 0 <= metrics['accuracy/top1'] <= metrics['accuracy/top5'] <= 100
    assert list((tmp_path / 'show').rglob('*.png'))


def test_fine_tuning_starts_from_the_whole_probe(probes, labelled_folder, tmp_path):
    """Without a learning rate every weight stays the probe's; BatchNorm follows the new images."""
    run_tool(
        'train',
        'configs/demo/cls_tran1_ft.py',
        '--work-dir',
        tmp_path / 'ft',
        '--cfg-options',
        *options(
            labelled_folder, f'load_from={probes / "cls_tran1"}', 'optim_wrapper.optimizer.lr=0'
        ),
    )
    before, after = state(probes / 'cls_tran1'), state(tmp_path / 'ft')
    assert before.keys() == after.keys()
    for key, value in before.items():
        statistics = key.endswith(('running_mean', 'running_var', 'num_batches_tracked'))
        assert torch.equal(after[key], value) != statistics, key


def test_tran4_takes_what_the_probe_has(probes):
    """Encoder, projection, first block, norm, classifier; blocks 2 to 4 are left as they start."""
    cfg = Config.fromfile('configs/demo/cls_tran1_ft.py').model
    cfg.head.update(depth=4, num_classes=6)
    cfg.init_cfg = Config.fromfile('configs/classification/tran4_ft.py').model.init_cfg
    cfg.init_cfg.checkpoint = str(probes / 'cls_tran1')
    init_default_scope('mmpretrain')
    torch.manual_seed(3)
    model = MODELS.build(cfg)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()
    probe = state(probes / 'cls_tran1')
    own = {
        key
        for key in start
        if key.startswith(('head.blocks.1.', 'head.blocks.2.', 'head.blocks.3.'))
    }
    assert len(own) == 3 * 12 and start.keys() - own == probe.keys()
    for key, value in model.state_dict().items():
        assert torch.equal(value, start[key] if key in own else probe[key]), key


def test_the_log_says_how_many_tensors_came_from_the_file(probes, pretrained):
    (log,) = (probes / 'cls_tran1').glob('*/*.log')
    count = sum(key.startswith('backbone.') for key in state(probes / 'cls_tran1'))
    lines = log.read_text().replace(str(pretrained), 'FILE').splitlines()
    (said,) = [line for line in lines if re.search(shows('MobileFormer', 'small', 'FILE'), line)]
    assert re.findall(r'\d+', said).count(str(count)) == 2


def test_auto_scale_lr_scales_every_layer(probes, labelled_folder, tmp_path):
    """4 images instead of 64: a sixteenth, of each layer's own rate."""
    run_tool(
        'train',
        'configs/demo/cls_tran1_ft.py',
        '--work-dir',
        tmp_path / 'ft',
        '--auto-scale-lr',
        '--no-validate',
        '--cfg-options',
        *options(labelled_folder, f'load_from={probes / "cls_tran1"}'),
    )
    path = Path((tmp_path / 'ft' / 'last_checkpoint').read_text())
    groups = torch.load(path, weights_only=False)['optimizer']['param_groups']
    scales = {group['lr_scale'] for group in groups}
    assert scales == {0.75**depth for depth in range(7)}  # from the head to the encoder's tokens
    for group in groups:
        assert group['initial_lr'] == pytest.approx(1e-3 / 16 * group['lr_scale'])


def test_low_shot_trains_on_the_list_alone(labelled_folder, pretrained, tmp_path):
    """One image of each class, 6 in all: a batch of 7 is more than there are."""
    listed = 'train_dataloader.dataset.dataset.ann_file=low_shot/train_33pct.txt'
    command = [
        'train',
        'configs/demo/cls_lin.py',
        '--work-dir',
        tmp_path,
        '--pretrained',
        pretrained,
        '--no-validate',
        '--cfg-options',
        *options(labelled_folder, listed),
    ]
    message = shows('train:', labelled_folder / 'low_shot/train_33pct.txt')
    with pytest.raises(SystemExit, match=message):
        run_tool(*command)
    draw = ROOT / 'tools/dataset_converters/draw_low_shot.py'
    runpy.run_path(str(draw))['main']([str(labelled_folder / 'train'), '33'])
    run_tool(*command)
    (log,) = tmp_path.glob('*/*.log')
    assert 'Iter(train) [3/3]' in log.read_text()
    with pytest.raises(SystemExit, match=shows('train:', 6, 7, 'train_dataloader.batch_size')):
        run_tool(
            *command,
            'train_dataloader.batch_size=7',
            'train_dataloader.sampler.type=finola_mm.SeededSampler',
        )


def test_a_frozen_encoder_without_weights(labelled_folder, tmp_path):
    command = ['train', 'configs/demo/cls_lin.py', '--work-dir', tmp_path, '--no-validate']
    small = ['--cfg-options', *options(labelled_folder)]
    message = shows('train:', 'configs/demo/cls_lin.py', 'backbone.frozen_stages', '--pretrained')
    with pytest.raises(SystemExit, match=message):
        run_tool(*command, *small)
    assert not list(tmp_path.iterdir())
    run_tool(*command, '--pretrained', 'none', *small)
    (log,) = tmp_path.glob('*/*.log')
    assert 'Iter(train) [3/3]' in log.read_text() and '.pth' not in log.read_text()


def test_classes_that_do_not_fit(labelled_folder, probes, tmp_path):
    """6 class folders, and a model for the demo's 12."""
    small = [option for option in options(labelled_folder) if 'num_classes' not in option]
    for name, args in (('train', ['--pretrained', 'none']), ('test', [probes / 'cls_lin'])):
        remedy = '--cfg-options model.head.num_classes=6'
        message = shows(f'{name}:', labelled_folder, 'num_classes=12', remedy)
        with pytest.raises(SystemExit, match=message):
            run_tool(
                name,
                'configs/demo/cls_lin.py',
                *args,
                '--work-dir',
                tmp_path,
                '--cfg-options',
                *small,
            )


def test_fine_tuning_without_a_probe(labelled_folder, tmp_path):
    with pytest.raises(SystemExit, match=shows('train:', tmp_path / 'no_probe')):
        run_tool(
            'train',
            'configs/demo/cls_tran1_ft.py',
            '--work-dir',
            tmp_path,
            '--cfg-options',
            *options(labelled_folder, f'load_from={tmp_path / "no_probe"}'),
        )


@pytest.mark.parametrize('name', ['cls_lin', 'cls_tran1', 'cls_tran1_ft', 'cls_supervised'])
def test_gradients_reach_every_trainable_parameter(name):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(f'configs/demo/{name}.py').model).train()
    images = torch.randn(4, 3, 64, 64)
    logits = model(images)
    logits.log_softmax(1)[range(4), range(4)].sum().backward()
    frozen = name in ('cls_lin', 'cls_tran1')
    for key, parameter in model.named_parameters():
        assert parameter.requires_grad == (not frozen or key.startswith('head.')), key
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
        else:
            assert parameter.grad is None, key


def test_mocov2_trains_and_gives_its_encoder(labelled_folder, tmp_path):
    small = [
        option
        for option in options(labelled_folder)
        if option.startswith('train_dataloader') or 'hooks' in option
    ]
    run_tool(
        'train',
        'configs/demo/mocov2.py',
        '--work-dir',
        tmp_path / 'moco',
        '--cfg-options',
        *small,
        'train_cfg.max_iters=3',
        'model.queue_len=16',
    )
    losses = [row['loss'] for row in logged(tmp_path / 'moco')]
    assert len(losses) == 3 and all(0 < loss < 20 for loss in losses)
    moco = state(tmp_path / 'moco')
    assert moco['queue_ptr'].item() == 3 * 4
    # A key k / |k| is rounded twice where the run computes in bfloat16, whose 8 bits round by at
    # most u = 2^-8: its norm, |k| (1 + u), and each quotient. Its own norm is then off by
    # (1 + u) / (1 - u) - 1, a little over 2 u, whatever the processor.
    u = 2**-8
    norms = moco['queue'].norm(dim=0)
    torch.testing.assert_close(norms, torch.ones(16), atol=(1 + u) / (1 - u) - 1, rtol=0)

    key = 'stages.3.0.former.query.weight'
    query, momentum = moco[f'backbone.{key}'], moco[f'encoder_k.module.0.{key}']
    assert not torch.equal(query, momentum)
    run_tool(
        'train',
        'configs/demo/cls_lin.py',
        '--work-dir',
        tmp_path / 'lin',
        '--pretrained',
        tmp_path / 'moco',
        '--no-validate',
        '--cfg-options',
        *options(labelled_folder),
    )
    assert torch.equal(state(tmp_path / 'lin')[f'backbone.{key}'], query)
