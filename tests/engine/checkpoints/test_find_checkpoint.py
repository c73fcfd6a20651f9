import pytest

from finola_mm.engine import find_checkpoint
from tests.messages import shows


def test_checkpoint_of_a_work_directory(tmp_path):
    (tmp_path / 'iter_2.pth').touch()
    with pytest.raises(FileNotFoundError, match=shows(tmp_path / 'iter_2.pth')):
        find_checkpoint(str(tmp_path))
    (tmp_path / 'last_checkpoint').write_text('/moved/away/iter_2.pth')
    assert find_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_2.pth')
    (tmp_path / 'last_checkpoint').write_bytes(b'\0\xff')  # a power cut
    with pytest.raises(FileNotFoundError, match=shows(tmp_path / 'iter_2.pth')):
        find_checkpoint(str(tmp_path))


def test_no_checkpoint_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=shows(tmp_path / 'epoch_1.pth', '.safetensors')):
        find_checkpoint(str(tmp_path / 'epoch_1.pth'))
    with pytest.raises(FileNotFoundError, match=r'nowhere\b(?!/)'):
        find_checkpoint(str(tmp_path / 'nowhere' / 'epoch_1.pth'))
