import pytest

from finola_mm.engine import find_checkpoint, load_config

CONFIG = 'configs/selfsup/masked_finola_b.py'


def test_a_mistyped_config_gets_a_proposal(project_root):
    with pytest.raises(FileNotFoundError, match='no config file .*near it: .*masked_finola_b.py'):
        load_config('configs/selfsup/masked_finola_d.py')


def test_options_and_work_dir(project_root):
    cfg = load_config(CONFIG, options={'train_cfg.max_epochs': 3})
    assert cfg.train_cfg.max_epochs == 3
    assert cfg.work_dir == 'work_dirs/masked_finola_b'
    assert load_config(CONFIG, work_dir='elsewhere').work_dir == 'elsewhere'
    assert load_config('configs/demo/masked_finola_b.py').work_dir == 'work_dirs/demo'


@pytest.mark.parametrize(
    ('option', 'said'),
    [('data_root', 'data_root is a variable that the config file uses'),
     ('data_preprocessor.mean', 'data_preprocessor is a variable that the config file uses'),
     ('optim_wraper.optimizer.lr', 'has no optim_wraper; near it: optim_wrapper')],
)
def test_an_option_without_effect_is_refused(project_root, option, said):
    with pytest.raises(ValueError, match=said):
        load_config(CONFIG, options={option: 'x'})


def test_options_that_a_config_need_not_have(project_root):
    assert load_config(CONFIG, options={'compile': True}).compile is True


def test_checkpoint_of_a_work_directory(tmp_path):
    (tmp_path / 'iter_2.pth').touch()
    with pytest.raises(FileNotFoundError, match=r'no checkpoint .*iter_2\.pth'):
        find_checkpoint(str(tmp_path))
    (tmp_path / 'last_checkpoint').write_text('/moved/away/iter_2.pth')
    assert find_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_2.pth')
    (tmp_path / 'last_checkpoint').write_bytes(b'\0\xff')  # a power cut
    with pytest.raises(FileNotFoundError, match=r'no checkpoint .*iter_2\.pth'):
        find_checkpoint(str(tmp_path))


def test_no_checkpoint_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no .pth file'):
        find_checkpoint(str(tmp_path / 'epoch_1.pth'))
