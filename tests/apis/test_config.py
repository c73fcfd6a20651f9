import argparse
import importlib
import re

import pytest
from mmengine.registry import LOOPS, MODELS

from finola_mm.apis import (
    CfgOptions,
    in_own_module,
    load_config,
    unknown_setting,
)
from tests.messages import shows

CONFIG = 'configs/selfsup/masked_finola_b.py'


def test_a_mistyped_config_gets_a_proposal(project_root):
    with pytest.raises(FileNotFoundError, match=shows('masked_finola_d.py', 'masked_finola_b.py')):
        load_config('configs/selfsup/masked_finola_d.py')


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
    with pytest.raises(ValueError, match=shows('--cfg-options', option, *said)):
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


def test_a_setting_that_its_class_does_not_have():
    """As MMEngine's registry says it; another class's is no mistake in an option."""
    with pytest.raises(TypeError) as caught:
        LOOPS.build(dict(type='IterBasedTrainLoop', runner=None, dataloader=None, max_iter=3))
    said = unknown_setting(caught.value, {'train_cfg.max_iter': 3, 'work_dir': 'a'})
    assert re.match(shows('--cfg-options', 'train_cfg.max_iter', 'IterBasedTrainLoop'), said)
    assert unknown_setting(caught.value, {'train_cfg.max_iters': 3}) is None
    assert unknown_setting(TypeError('another'), {'train_cfg.max_iter': 3}) is None
    assert unknown_setting(caught.value, None) is None


OWN = """
from torch import nn
from finola_mm.backbones import MobileFormer

def of_its_own():
    raise ValueError('my own')

def of_torch():
    nn.Conv2d(3, 4, 1, groups=2)

def of_ours():
    MobileFormer('W3')

def of_text():
    exec(compile("raise ValueError('w')", 'text', 'exec'), {})
"""


@pytest.mark.parametrize('raises', ['of_its_own', 'of_torch', 'of_ours', 'of_text'])
def test_what_an_own_module_raises_is_seen_whole(raises, tmp_path, monkeypatch):
    (tmp_path / 'own_module_of_a_user.py').write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module('own_module_of_a_user')
    with pytest.raises(ValueError) as caught:
        getattr(own, raises)()
    assert in_own_module(caught.value)


def test_what_we_and_the_hosts_raise_is_a_message(project_root):
    """The hosts from their sources too, as ``pip install -e`` leaves them."""
    with pytest.raises(ValueError) as caught:
        MODELS.build(dict(type='finola_mm.MobileFormer', arch='w3'))
    assert not in_own_module(caught.value)
    with pytest.raises(ValueError) as caught:
        exec(
            compile("raise ValueError('w')", '/sources/mmdet/a.py', 'exec'),
            dict(__name__='mmdet.a'),
        )
    assert not in_own_module(caught.value)


@pytest.mark.parametrize(
    'text', ["custom_imports = dict(imports=['fails_at_import'])", "steps = int('my own')"]
)
def test_a_config_that_fails_itself_or_in_its_imports(text, tmp_path, monkeypatch):
    """Its place is in the traceback."""
    (tmp_path / 'fails_at_import.py').write_text("raise ValueError('my own')")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'c.py').write_text(text)
    with pytest.raises(ImportError, match=shows(tmp_path / 'c.py', 'my own')) as caught:
        load_config(str(tmp_path / 'c.py'))
    assert isinstance(caught.value.__cause__, ValueError)
