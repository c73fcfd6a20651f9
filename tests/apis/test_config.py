"""Configs for the tools: a user's mistake is a UserError, an error of the file itself is not."""

import argparse

import pytest

from finola_mm.apis import CfgOptions, load_config
from finola_mm.errors import UserError
from tests.messages import shows

CONFIG = 'configs/selfsup/masked_finola_b.py'


def test_a_mistyped_config_gets_a_proposal(project_root):
    with pytest.raises(UserError, match=shows('masked_finola_d.py', 'masked_finola_b.py')):
        load_config('configs/selfsup/masked_finola_d.py')


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


def test_options_that_a_config_need_not_have(project_root):
    assert load_config(CONFIG, options={'compile': True}).compile is True


def test_settings_of_the_command_line(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions)
    given = parser.parse_args(['--cfg-options', 'a.b=1', 'c=[2,d=3]']).cfg_options
    assert given == {'a.b': 1, 'c': [2, 'd=3']}
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'a.b', '3'])
    error = capsys.readouterr().err
    assert 'a.b' in error and 'key=value' in error


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
