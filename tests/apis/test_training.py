"""How the options of tools/train.py change a config, and where a run starts."""

import copy
import errno
import signal

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from finola_mm.apis import command_line, training
from finola_mm.apis.training import set_starting_point
from finola_mm.engine import SIGNALS, InterruptedRun
from finola_mm.errors import CheckpointError, UserError
from tests.messages import shows

RESUMABLE = dict(meta={}, message_hub={}, optimizer={})  # the entries that a resume needs
FROZEN = dict(backbone=dict(frozen_stages=5))


def config(**settings):
    return Config(copy.deepcopy(settings), cfg_text=' ', filename='a_config.py')


@pytest.fixture
def start(tmp_path):
    """Arguments of set_starting_point and settings of a config -> the changed config."""

    def start(resume=None, pretrained=None, **settings):
        defaults = dict(model=dict(backbone=dict()), work_dir=str(tmp_path / 'run'))
        cfg = config(**{**defaults, **settings})
        set_starting_point(
            cfg, resume=resume and str(resume), pretrained=pretrained and str(pretrained)
        )
        return cfg

    return start


@pytest.fixture
def weights(tmp_path):
    torch.save(RESUMABLE, tmp_path / 'a.pth')
    return tmp_path / 'a.pth'


def test_a_config_with_a_scaled_learning_rate_is_not_scaled_again():
    """Base batch size 1024 and 4 accumulated steps: 256 images per step, also from the dump."""
    cfg = config(
        auto_scale_lr=dict(base_batch_size=1024), optim_wrapper=dict(accumulative_counts=4)
    )
    for _ in range(2):
        training.enable_lr_scaling(cfg)
        assert cfg.auto_scale_lr == dict(base_batch_size=256, enable=True)
    with pytest.raises(UserError, match=shows('a_config.py', 'auto_scale_lr.base_batch_size')):
        training.enable_lr_scaling(config())


def test_settings_that_would_end_a_run_later(tmp_path):
    """An interval of no validation, and folders that cannot be written."""
    hooks = dict(checkpoint=dict(out_dir='/proc/x'))

    def check(val_interval=1, val_cfg={}, **settings):  # noqa: B006
        settings = dict(work_dir=str(tmp_path / 'run'), default_hooks={}, **settings)
        loop = dict(val_interval=val_interval)
        training.check_settings(config(**{**dict(train_cfg=loop, val_cfg=val_cfg), **settings}))

    check()
    assert (tmp_path / 'run').is_dir()
    check(0, val_cfg=None)  # --no-validate
    for interval in (0, -1, 0.5, 'x', None):
        with pytest.raises(UserError, match=shows('val_interval', interval)):
            check(interval)
    for setting in (dict(work_dir='/proc/x'), dict(default_hooks=hooks)):
        with pytest.raises(UserError, match=shows('/proc/x')):
            training.check_settings(
                config(**{**dict(work_dir=str(tmp_path), train_cfg={}), **setting})
            )


@pytest.mark.parametrize(
    'settings',
    [
        dict(resume='https://example.org/w.pth'),
        dict(load_from='s3://example/w.pth'),
        dict(pretrained='https://example.org/w.pth'),
    ],
)
def test_nothing_is_downloaded(start, settings):
    with pytest.raises(UserError, match=r'://example\S*/w\.pth'):
        start(**settings)


def test_nothing_is_downloaded_for_a_resume_by_the_config(tmp_path):
    cfg = config(model={}, work_dir=str(tmp_path), resume=True, load_from='s3://example/w.pth')
    with pytest.raises(UserError, match=r'://example\S*/w\.pth'):
        set_starting_point(cfg)


def test_where_a_run_starts(start, tmp_path):
    for name in ('a.pth', 'b.pth'):
        torch.save(RESUMABLE, tmp_path / name)
    a, b = str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth')
    with pytest.raises(UserError, match=shows('--pretrained', a, 'load_from', b)):
        start(pretrained=a, load_from=b)
    cfg = start('auto', load_from=b)  # no checkpoint yet
    assert not cfg.resume and cfg.load_from == b
    assert cfg.custom_hooks == [dict(type='finola_mm.StrictLoadHook', path=b)]
    assert start('auto', pretrained=a).model.backbone.init_cfg[-1].checkpoint == a

    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'last_checkpoint').write_text(a)
    cfg = start('auto', pretrained='c.pth', load_from=b)
    assert cfg.resume and cfg.load_from == a
    assert 'init_cfg' not in cfg.model and 'init_cfg' not in cfg.model.backbone
    assert cfg.custom_hooks == [dict(type='finola_mm.StrictResumeHook', path=a, skipped=[])]
    assert start(b).load_from == b
    assert start(load_from=b).resume is False


def test_a_resume_by_the_config(tmp_path, weights):
    def start(**settings):
        cfg = config(model={}, work_dir=str(tmp_path / 'run'), resume=True, **settings)
        set_starting_point(cfg)
        return cfg

    assert start().resume is False
    assert start(load_from=str(weights)).load_from == str(weights)
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'last_checkpoint').write_text(str(weights))
    assert start().load_from == str(weights) and start().resume


@pytest.mark.parametrize('name', ['Pretrained', 'finola_mm.Pretrained'])
def test_a_frozen_encoder_needs_weights(start, tmp_path, weights, name):
    remedy = '--pretrained none'
    for resume in (None, 'auto'):  # there is no checkpoint yet
        with pytest.raises(UserError, match=shows('frozen_stages=5', remedy)):
            start(resume, model=FROZEN)
    with pytest.raises(UserError, match=shows('frozen_stages=0', remedy)):
        start(model=dict(backbone=dict(frozen_stages=0, init_cfg=dict(type='Kaiming'))))
    assert 'init_cfg' not in start(pretrained='none', model=FROZEN).model.backbone
    with pytest.raises(CheckpointError, match=shows(tmp_path / 'probe', 'load_from')):
        start(model=FROZEN, load_from=str(tmp_path / 'probe'))
    start(pretrained=weights, model=FROZEN)
    start(weights, model=FROZEN)
    start(model=FROZEN, load_from=str(weights))
    init = dict(type=name, checkpoint=str(weights))
    start(model=dict(backbone=dict(frozen_stages=5, init_cfg=[dict(type='Kaiming'), init])))
    start(model=dict(init_cfg=init, **FROZEN))


def test_pretrained_replaces_the_weights_of_the_config(start, weights):
    """Their file need not exist, at the start or at a resume; other initializers stay."""
    kaiming, absent = dict(type='Kaiming'), dict(type='finola_mm.Pretrained', checkpoint='no.pth')
    model = dict(backbone=dict(init_cfg=[absent, kaiming]))
    given = dict(type='finola_mm.Pretrained', checkpoint=str(weights))
    assert start(pretrained=weights, model=model).model.backbone.init_cfg == [kaiming, given]
    assert start(pretrained='none', model=model).model.backbone.init_cfg == [kaiming]
    for pretrained in (None, weights):
        cfg = start(weights, pretrained, model=dict(model, init_cfg=absent))
        assert cfg.model.init_cfg == [] and cfg.model.backbone.init_cfg == [kaiming]


def test_weights_that_the_config_names(start, weights):
    absent = dict(type='finola_mm.Pretrained', checkpoint='no.pth')
    for model in (dict(backbone=dict(init_cfg=absent)), dict(init_cfg=absent)):
        with pytest.raises(CheckpointError, match=r'\bno\.pth'):
            start(model=model)
    model = dict(backbone=dict(), init_cfg=absent)
    remedy = '--cfg-options model.init_cfg=None'
    for given in (weights, 'none'):
        with pytest.raises(UserError, match=shows('--pretrained', given, 'no.pth', remedy)):
            start(pretrained=given, model=model)
    with pytest.raises(UserError, match=shows('a_config.py', 'backbone', '--pretrained')):
        start(pretrained=weights, model=dict(head=dict()))


def test_a_file_of_the_name_none(start, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r'\./none'):
        start(pretrained='./none', model=FROZEN)
    (tmp_path / 'none').touch()
    (init,) = start(pretrained='./none', model=FROZEN).model.backbone.init_cfg
    assert init.checkpoint == './none'


@pytest.fixture
def broadcast(monkeypatch):
    """Stand-in for a second rank; -> set the rank. What rank 0 sends, the other one receives."""
    sent = []

    def exchange(outcome):
        if rank[0] == 0:
            sent[:] = outcome
        outcome[:] = sent

    rank = [0]
    monkeypatch.setattr(training, 'broadcast_object_list', exchange)
    monkeypatch.setattr(training, 'is_main_process', lambda: rank[0] == 0)
    return rank


def test_rank_zero_decides(broadcast):
    assert training.on_rank_zero(lambda: None) is None
    assert training.on_rank_zero(lambda: 'iter_6.pth') == 'iter_6.pth'
    broadcast[0] = 1
    assert training.on_rank_zero(pytest.fail) == 'iter_6.pth'


def test_an_error_of_rank_zero_ends_all_ranks(broadcast):
    def stale():
        raise UserError('Stale file handle')

    with pytest.raises(UserError, match='Stale'):
        training.on_rank_zero(stale)
    broadcast[0] = 1
    with pytest.raises(UserError, match='Stale'):
        training.on_rank_zero(pytest.fail)


@pytest.fixture
def train(monkeypatch):
    """Train with a runner that raises this error."""

    def train(error):
        def fail(cfg):
            raise error

        monkeypatch.setattr(Runner, 'from_cfg', fail)
        training.train_from_cfg(config())

    return train


def test_a_full_disk(train):
    with pytest.raises(SystemExit, match=shows('scalars.json', '--resume')):
        command_line(train)(OSError(errno.ENOSPC, 'No space left', 'scalars.json'))
    with pytest.raises(OSError, match='Stale'):
        command_line(train)(OSError(errno.ESTALE, 'Stale file handle'))


def test_an_interrupted_run_exits_with_its_own_status(train):
    """A launcher terminates the other ranks as soon as the first one has exited."""
    with pytest.raises(InterruptedRun):
        train(InterruptedRun())
    assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}


def test_amp_in_a_config_that_already_uses_it(monkeypatch):
    """The bfloat16 wrapper has neither a loss scale nor a type; on an old GPU, float16 has both."""
    wrapper = dict(type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic', optimizer={})
    cfg = config(optim_wrapper=wrapper)
    training.enable_amp(cfg)
    assert cfg.optim_wrapper == dict(type='finola_mm.BFloat16OptimWrapper', optimizer={})
    monkeypatch.setattr(training, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(training, 'computes_bfloat16', lambda device: False)
    cfg = config(optim_wrapper=wrapper)
    training.enable_amp(cfg)
    assert cfg.optim_wrapper == wrapper
