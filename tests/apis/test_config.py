"""Configs for the tools: a user's mistake is a UserError, an error of the file itself is not."""

import argparse
import os
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from finola_mm.apis import CfgOptions, load_config
from finola_mm.apis.config import require
from finola_mm.errors import UserError
from tests.conftest import ROOT
from tests.messages import shows

CONFIG = 'configs/selfsup/masked_finola_b.py'


def test_a_mistyped_config_gets_a_proposal(project_root):
    with pytest.raises(UserError, match=shows('masked_finola_d.py', 'masked_finola_b.py')):
        load_config('configs/selfsup/masked_finola_d.py')


def test_configs_of_the_package_by_name(tmp_path, monkeypatch):
    """In a folder without a checkout; a file of that name takes precedence."""
    monkeypatch.chdir(tmp_path)
    name = 'selfsup/masked_finola_b'
    for given in (name, f'{name}.py', f'configs/{name}.py', f'finola_mm::{name}.py'):
        cfg = load_config(given)
        assert Path(cfg.filename).samefile(ROOT / f'configs/{name}.py')
        assert cfg.work_dir == 'work_dirs/masked_finola_b'
    with pytest.raises(UserError, match=shows('selfsup/masked_finola_d', f'{name},')):
        load_config('selfsup/masked_finola_d')
    (tmp_path / name).parent.mkdir()
    (tmp_path / f'{name}.py').write_text('model = dict(type="Own")\n')
    assert load_config(f'{name}.py').model.type == 'Own'


def test_a_file_that_is_no_config(tmp_path):
    (tmp_path / 'a.pth').touch()
    with pytest.raises(UserError, match=shows(tmp_path / 'a.pth', '.py')):
        load_config(tmp_path / 'a.pth')


def test_options_and_work_dir(project_root):
    cfg = load_config(CONFIG, options={'train_cfg.max_epochs': 3})
    assert cfg.train_cfg.max_epochs == 3
    assert cfg.work_dir == 'work_dirs/masked_finola_b'
    assert load_config(CONFIG, work_dir='elsewhere').work_dir == 'elsewhere'
    assert load_config('configs/demo/masked_finola_b.py').work_dir == 'work_dirs/demo'


@pytest.mark.parametrize(
    ('option', 'said'),
    [
        (
            'data_root',
            (
                'train_dataloader.dataset.dataset.data_root',
                'val_dataloader.dataset.dataset.data_root',
            ),
        ),
        (
            'meta_keys',
            ('test_pipeline.4.meta_keys', 'train_dataloader.dataset.dataset.pipeline.3.meta_keys'),
        ),
        ('train_pipeline', ('train_dataloader.dataset.dataset.pipeline',)),
        ('data_preprocessor.mean', ('model.data_preprocessor',)),
        ('optim_wraper.optimizer.lr', ('optim_wrapper',)),
    ],
)
def test_an_option_without_effect_is_refused(project_root, option, said):
    with pytest.raises(UserError, match=shows('--cfg-options', option, *said)):
        load_config(CONFIG, options={option: 'x'})


@pytest.mark.parametrize(
    ('option', 'value', 'seen'),
    [
        ('train_dataloader.batch_size', 'abc', ("'abc'",)),
        ('optim_wrapper.optimizer.lr', '5e-4x', ("'5e-4x'",)),
        ('param_scheduler.0.end', 'x', ("'x'",)),
        ('train_cfg.max_iters', 20, ('max_epochs', 'max_iters')),
    ],
)
def test_settings_that_would_end_in_a_traceback(project_root, option, value, seen):
    with pytest.raises(UserError, match=shows(*seen)):
        load_config(CONFIG, options={option: value})


def test_text_may_replace_what_is_no_number(project_root):
    options = {'train_dataloader.pin_memory': 'x', 'train_cfg.type': 'EpochBasedTrainLoop'}
    load_config(CONFIG, options={**options, 'default_hooks.checkpoint.save_best': 'auto'})


def test_options_that_a_config_need_not_have(project_root):
    assert load_config(CONFIG, options={'compile': True}).compile is True


def parse(*settings):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions)
    return parser.parse_args(['--cfg-options', *settings]).cfg_options


def test_settings_of_the_command_line(capsys):
    assert parse('a.b=1', 'c=[2,d=3]', 'd.1.e=x=y') == {'a.b': 1, 'c': [2, 'd=3'], 'd.1.e': 'x=y'}
    for wrong in ('a.b', 'a.b = 3', 'a.b =3', '=3'):
        with pytest.raises(SystemExit):
            parse(wrong)
        error = capsys.readouterr().err
        assert repr(wrong) in error and 'key=value' in error


TEXTS = [
    *('/data/set v1', ' a', 'a ', 'a\tb', '/data/a,b/list.txt', 'a,b', ',', 'a,', '1,a', ''),
    *('set [v1]', 'a(b)', 'f(1,2)', '[a]/[b]', '[v1]/x', '[a', '(]', '[a(b, c]'),
    *("Bob's photos", "'it's'", '"', "'", 'a"b', '~/x', 'a\\1b', 'C:\\new', '50%', '%s', '日本'),
    *('007', '00', '1_000', '2026_11_29', '0x10', '1.2.3', '1j', '1e', '-', '.', '...', '١'),
    *('inf', 'nan', 'none', 'null', 'yes', "{'a': 1}", '{{x}}', '# x', 'a=b', 's3://b/x?y=1,2'),
]


@pytest.mark.parametrize('text', TEXTS)
def test_text_arrives_as_typed(text, tmp_path):
    """Also from the config that a run saves."""
    options = parse(f'load_from={text}')
    assert options == dict(load_from=text)
    (tmp_path / 'c.py').touch()
    load_config(tmp_path / 'c.py', options=options).dump(tmp_path / 'saved.py')
    assert load_config(tmp_path / 'saved.py').load_from == text


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        *[('5', 5), ('-5', -5), ('+5', 5), ('0', 0), ('0.5', 0.5), ('.5', 0.5), ('5.', 5.0)],
        *[('1e-3', 1e-3), ('1E5', 1e5), ('None', None), ('True', True), ('false', False)],
        *[("'5'", '5'), ('"None"', 'None'), ('"a, b"', 'a, b'), ("'C:\\new'", 'C:\\new')],
        # Lists as in MMEngine's documentation.
        *[('1,2', [1, 2]), ('1, 2', [1, 2]), ('[1,2]', [1, 2]), ('(1,2)', (1, 2)), ('1,', [1])],
        *[('(1)', (1,)), ('(1,)', (1,)), ('[]', []), ('()', ()), ('[1,None,a]', [1, None, 'a'])],
        ('[(1, 2, 3), [a, b], c]', [(1, 2, 3), ['a', 'b'], 'c']),
        ('(1,2),(3,4)', [(1, 2), (3, 4)]),
        # Elements of lists arrive as typed, too.
        ('[/data/set v1, /data/v2]', ['/data/set v1', '/data/v2']),
        ("[\"/data/a, b\", '(c]', 007, Bob's]", ['/data/a, b', '(c]', '007', "Bob's"]),
        ("'a','b'", ['a', 'b']),
    ],
)
def test_numbers_lists_and_quotes(text, value):
    (found,) = parse(f'a={text}').values()
    assert found == value and type(found) is type(value)


def test_a_misspelt_entry_of_a_config_file(project_root, tmp_path):
    path = tmp_path / 'own.py'
    base = project_root / 'configs/demo/masked_finola_b.py'
    path.write_text(f'_base_ = [{str(base)!r}]\ntrain_dataloder = dict(batch_size=4)\n')
    with pytest.raises(UserError, match=shows(path, 'train_dataloder', 'train_dataloader')):
        load_config(path)


def test_an_option_that_does_not_fit_the_config(project_root):
    for option in ('param_scheduler.7.T_max', 'train_cfg.max_epochs.x', 'custom_hooks.0'):
        with pytest.raises(UserError, match=shows('--cfg-options', option)):
            load_config(CONFIG, options={option: None})


VALUES = [
    *("/x/Bob's photos", 'a"b', 'a\\1b', 'C:\\new', 'a\\', '\\g<0>', '\\u0041', "a\\'b", 'a\nb'),
    *('# a', '{{x}}', '{{$HOME:x}}', '{{ fileDirname }}', '{{_base_.x}}', '%s', '日本'),
    os.fsdecode(b'/x/\xff'),
]


@pytest.mark.parametrize('value', VALUES)
def test_environment_variables_arrive_unchanged(value, project_root, tmp_path, monkeypatch):
    """In the shipped bases, and in a user's own config, also within a longer string."""
    monkeypatch.setenv('FINOLA_IMAGENET', value)
    monkeypatch.setenv('OWN', value)
    monkeypatch.setenv('NUMBERS', "['a', 1]")  # an expression, not a part of a string
    (tmp_path / 'own.py').write_text(
        f"_base_ = '{project_root / CONFIG}'\n"
        "work_dir = '{{$OWN:a/b}}/run'\nlaunch = dict(a={{'$NUMBERS:1'}})\n"
    )
    cfg = load_config(tmp_path / 'own.py')
    assert cfg.train_dataloader.dataset.dataset.data_root == value
    assert cfg.work_dir == f'{value}/run' and cfg.launch.a == ['a', 1]
    assert os.environ['OWN'] == value


def test_an_empty_environment_variable(project_root, tmp_path, monkeypatch):
    monkeypatch.setenv('FINOLA_IMAGENET', '')
    monkeypatch.setenv('OWN', "it's")
    (tmp_path / 'own.py').write_text(f"_base_ = '{project_root / CONFIG}'\na = '{{{{$OWN:b}}}}'\n")
    with pytest.raises(UserError, match='FINOLA_IMAGENET'):
        load_config(tmp_path / 'own.py')
    assert os.environ['OWN'] == "it's"


def test_data_loaders_without_workers(project_root):
    """torch rejects the other arguments; every loader of these configs can be built."""
    none = {f'{split}_dataloader.num_workers': 0 for split in ('train', 'val', 'test')}
    none['train_dataloader.prefetch_factor'] = 4
    cfg = load_config(CONFIG, options=none)
    for split in ('train', 'val', 'test'):
        settings = dict(cfg[f'{split}_dataloader'], dataset=[1], sampler=None, collate_fn=None)
        assert len(DataLoader(**settings)) == (split != 'train')  # drop_last
    assert load_config(CONFIG).train_dataloader.persistent_workers


def test_hooks_set_to_none(project_root, tmp_path):
    (tmp_path / 'c.py').write_text(
        f"_base_ = '{project_root / CONFIG}'\n"
        'default_hooks = dict(knn=None, timer=None)\n'
        'custom_hooks = [None, *_base_.custom_hooks]\n'
    )
    cfg = load_config(tmp_path / 'c.py')
    assert 'knn' not in cfg.default_hooks and 'visualization' in cfg.default_hooks
    assert cfg.default_hooks.timer is None  # MMEngine removes its own
    assert cfg.custom_hooks == load_config(CONFIG).custom_hooks


@pytest.mark.parametrize(
    'text', ["custom_imports = dict(imports=['fails_at_import'])", "steps = int('my own')"]
)
def test_a_config_that_fails_itself_or_in_its_imports(text, tmp_path, monkeypatch):
    """Its own ValueError, which the tools show with its traceback."""
    (tmp_path / 'fails_at_import.py').write_text("raise ValueError('my own')")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'c.py').write_text(text)
    with pytest.raises(ValueError, match='my own') as caught:
        load_config(str(tmp_path / 'c.py'))
    assert not isinstance(caught.value, UserError)


def test_normalization_beside_the_model(tmp_path):
    """As in mmpretrain's base configs; MMEngine's Runner merges it into the model, too."""
    (tmp_path / 'c.py').write_text(
        'data_preprocessor = dict(mean=[1, 2, 3])\nmodel = dict(type="ImageClassifier")\n'
    )
    assert load_config(tmp_path / 'c.py').model.data_preprocessor == dict(mean=[1, 2, 3])


def test_an_incomplete_config(project_root):
    cfg = load_config('configs/_base_/coco_detection.py')
    require(cfg, 'train_dataloader')
    with pytest.raises(UserError, match=shows('coco_detection.py', 'model')):
        require(cfg, 'model', 'train_dataloader')
