"""Videos as RGB frames. A webcam is untried."""

import cv2
import numpy as np
import pytest
from PIL import Image

from finola_mm.apis.images import Video, is_video, read_image
from finola_mm.errors import UserError
from tests.messages import shows


def write_video(path, frames, fps=12.5):
    """Write RGB frames without loss."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'FFV1'), fps, (width, height))
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def test_frames(tmp_path):
    frames = list(np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8))
    video = Video(write_video(tmp_path / 'video.avi', frames))
    assert (video.fps, video.size, video.frames) == (12.5, (64, 48), 3)
    for found, expected in zip(video, frames, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_is_a_video():
    assert is_video('a/b.MP4') and not is_video('a.jpg') and not is_video('mp4')


def test_refuses(tmp_path):
    (tmp_path / 'text.mp4').write_text('no video')
    for source in (tmp_path / 'text.mp4', tmp_path / 'missing.mp4', 99):
        with pytest.raises(UserError, match=shows(source)):
            Video(source)


@pytest.mark.parametrize('dtype, white', [(np.uint16, 65535), (np.uint16, 4095), (np.float32, 1)])
def test_deep_images(tmp_path, dtype, white):
    """A PIL image of more than 8 bits is scaled as its file is."""
    image = Image.fromarray((np.linspace(0, white, 64).reshape(8, 8)).astype(dtype))
    image.save(tmp_path / 'image.tif')
    found, expected = read_image(image), read_image(tmp_path / 'image.tif')
    assert np.array_equal(found, expected) and len(np.unique(found)) == 64
