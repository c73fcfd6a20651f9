"""The study of detection: its list of runs, its commands and its table."""

import json
from pathlib import Path

import pytest

from finola_mm.apis import load_config
from tests.studies.commands import arguments


@pytest.fixture
def encoders(studies, tmp_path):
    """The last checkpoints of the study of pre-training."""
    paths = {}
    for encoder, run, end in (
        ('random', 'random-0-50', 50),
        ('supervised', 'supervised-0-2400', 2400),
        ('MoCo v2', 'moco-v2-0-1600', 1600),
        ('masked FINOLA-B', 'masked-finola-b-0-6000', 6000),
    ):
        paths[encoder] = tmp_path / 'pretraining' / run / 'pretraining' / f'iter_{end}.pth'
        paths[encoder].parent.mkdir(parents=True)
        paths[encoder].touch()
    return paths


@pytest.fixture
def configs(studies, encoders, tmp_path):
    """The configs of the first run with its options: frozen, fine-tuned."""
    run = next(studies.detection.runs())
    steps = map(arguments, run.steps(tmp_path / 'detection' / run.name))
    return [load_config(step.config, options=step.cfg_options) for step in steps]


def test_every_run_has_its_own_name(studies):
    names = [run.name for run in studies.detection.runs()]
    assert len(set(names)) == len(names) == 4 * len(studies.detection.SEEDS)
    assert names[:4] == ['masked-finola-b-0', 'moco-v2-0', 'supervised-0', 'random-0']


def test_a_frozen_run_starts_from_its_encoder_and_the_other_from_there(studies, encoders, tmp_path):
    for run in studies.detection.runs():
        frozen, fine = map(arguments, run.steps(tmp_path / 'detection' / run.name))
        assert frozen.pretrained == str(encoders[run.keys['encoder']])
        assert 'load_from' not in frozen.cfg_options and fine.pretrained is None
        assert fine.cfg_options['load_from'] == frozen.work_dir != fine.work_dir
        for step in (frozen, fine):
            assert step.cfg_options['randomness.seed'] == run.keys['seed']


def test_the_same_detector_is_frozen_then_fine_tuned(studies, configs):
    frozen, fine = configs
    assert frozen.load_from is None
    assert [cfg.model.backbone.pop('frozen_stages') for cfg in configs] == [5, -1]
    assert frozen.model == fine.model
    for cfg in configs:
        assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs
        assert cfg.train_cfg.val_interval == cfg.train_cfg.max_epochs
        assert cfg.train_dataloader == frozen.train_dataloader


def test_the_scenes_are_made_where_the_configs_look(studies, configs):
    (make,) = studies.detection.PREPARE
    data = f'{make[make.index("--out") + 1]}/coco'
    assert Path(make[0]).is_file()
    for cfg in configs:
        assert cfg.train_dataloader.dataset.dataset.data_root == data
        assert cfg.val_dataloader.dataset.data_root == data
        assert ' '.join(make) in cfg.missing_data_hint


def test_a_missing_encoder_is_named_in_one_line(studies, encoders, tmp_path):
    encoders['supervised'].unlink()
    run = next(r for r in studies.detection.runs() if r.keys['encoder'] == 'supervised')
    with pytest.raises(ValueError, match=r'iter_2400\.pth') as seen:
        run.steps(tmp_path / 'detection' / run.name)
    assert '\n' not in str(seen.value) and '--only supervised-0-2400' in str(seen.value)


def test_the_rows_are_the_last_validation(studies, encoders, tmp_path):
    run = next(studies.detection.runs())
    steps = run.steps(tmp_path / 'detection' / run.name)
    for k, step in enumerate(steps):
        log = step.out / 'now/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        lines = [
            {'coco/bbox_mAP': ap, 'coco/bbox_mAP_50': 2 * ap, 'step': 9}
            for ap in (0.01, 0.25 + k / 8)
        ]
        log.write_text('\n'.join(map(json.dumps, lines)))
    rows = [row for step in steps for row in step.scores(step.out)]
    assert rows == [
        dict(training='frozen', ap='0.2500', ap50='0.5000'),
        dict(training='fine-tuned', ap='0.3750', ap50='0.7500'),
    ]


def test_the_table_shows_finished_runs(studies):
    common = dict(seed='0', note='', minutes='31.4')
    rows = [
        dict(common, encoder='random', training='frozen', ap='0.0512', ap50='0.1250'),
        dict(common, encoder='random', training='fine-tuned', ap='0.2000', ap50='0.4000'),
        dict(common, encoder='supervised', training='frozen', ap='0.3000', ap50='0.6000'),
        dict(common, encoder='supervised', training='', ap='', ap50='', note='loss not finite'),
    ]
    text = '\n'.join(studies.detection_tables.tables(rows))
    assert '| random | 5.1 | 12.5 | 20.0 | 40.0 | 31 |' in text
    assert '| supervised | 30.0 | 60.0 | loss not finite | loss not finite | 31 |' in text
    assert f'| masked FINOLA-B |{" not yet run |" * 5}' in text
