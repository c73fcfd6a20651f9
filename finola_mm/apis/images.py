"""Images, folders, videos and webcams as RGB arrays, (h, w, 3) uint8.

The arrays of users are RGB as well, as in PIL, supervision and RF-DETR. OpenCV's and mmdet's are
BGR: pass ``image[..., ::-1]``.
"""

from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageOps

from ..datasets import find_images
from ..datasets.decoding import decode, scale_to_uint8
from ..errors import UserError

ImageLike: TypeAlias = str | PathLike | np.ndarray | Image.Image
# One image; or several: a folder, a video file, the number of a webcam, or an iterable of images
Source: TypeAlias = ImageLike | int | Iterable[ImageLike]

# Below a folder there are only images; a video is read if it is named.
VIDEO_SUFFIXES = (
    '.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.ts', '.wmv', '.flv', '.3gp',
)  # fmt: skip


class Video:
    """The frames of a video file or of a webcam, in order; they can be read once.

    Args:
        source (str | Path | int): A file that OpenCV can decode, or the number of a webcam
            (untried).

    Attributes:
        fps (float): Frames per second; 0 if unknown.
        size (tuple[int, int]): Width and height in pixels.
        frames (int): Number of frames as the file records it; 0 if unknown, as of a webcam.

    Raises:
        UserError: the file or the webcam cannot be opened.
    """

    def __init__(self, source: str | PathLike | int):
        self.capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self.capture.isOpened():
            kind = 'webcam' if isinstance(source, int) else 'video'
            raise UserError(
                f'OpenCV cannot open the {kind} {source}; check that it exists, or convert it, for '
                'example with ffmpeg to .mp4'
            )
        self.fps = self.capture.get(cv2.CAP_PROP_FPS)
        width, height = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
        self.size = int(self.capture.get(width)), int(self.capture.get(height))
        self.frames = max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames as RGB arrays, (h, w, 3) uint8."""
        try:
            while True:
                complete, frame = self.capture.read()
                if not complete:
                    break
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            self.capture.release()


def read_bgr(path: str) -> np.ndarray:
    return decode(Path(path).read_bytes(), path)[0]


def iterate_images(source: Source) -> Iterable[ImageLike]:
    """Return the images of a source: of a folder, a video, a webcam, or of any iterable of images.

    A single image is a source with one image.
    """
    if isinstance(source, (str, PathLike)):
        return Video(source) if is_video(source) else find_images([str(source)])
    if isinstance(source, int):
        return Video(source)
    return [source] if isinstance(source, (np.ndarray, Image.Image)) else source


def is_video(path: str | PathLike) -> bool:
    """Whether a file name has the suffix of a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def is_single(source: Source) -> bool:
    """Whether ``source`` is one image: an array, a PIL image or an image file."""
    if isinstance(source, (str, PathLike)):
        return not (Path(source).is_dir() or is_video(source))
    return isinstance(source, (np.ndarray, Image.Image))


def read_image(image: ImageLike, read_file: Callable[[str], np.ndarray] = read_bgr) -> np.ndarray:
    """Return an image as an RGB array (h, w, 3); a PIL image is turned upright, as files are.

    read_file: reads a file as a BGR array, such as the loader of a config.

    Raises:
        UserError: a file that cannot be read, or an array that is not of type uint8 or not of shape
            (h, w, 3).
    """
    found = type(image).__name__
    if isinstance(image, (str, PathLike)):
        try:
            return np.ascontiguousarray(read_file(str(image))[..., ::-1])
        except OSError as error:
            raise UserError(f'cannot read the image {image} ({error.strerror})') from None
    if isinstance(image, Image.Image):
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(('I', 'F')):  # deeper than 8 bits; Pillow would clip it
            return np.stack([scale_to_uint8(np.asarray(image))[0]] * 3, axis=-1)
        return np.asarray(image.convert('RGB'))
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
            return image
        found = f'an array of {image.dtype} of shape {image.shape}'
    raise UserError(
        f'expected a path, a PIL image or an RGB array of uint8 of shape (h, w, 3), got {found}'
    )
