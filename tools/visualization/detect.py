"""Detect objects in images and videos, and draw them.

    python tools/visualization/detect.py CONFIG CHECKPOINT SOURCES... --out DIR

SOURCES are image files, folders of images, video files, and numbers of webcams (0 is the first;
untried, ends with Ctrl-C). For each image, the tool writes a picture to DIR/vis and a JSON file
with boxes (x1, y1, x2, y2 in pixels), scores, labels and class names to DIR/preds. For each video,
it writes DIR/vis/NAME.mp4 (MPEG-4) and DIR/preds/NAME.jsonl, with one line for each frame. Files of
several folders keep them: DIR/FOLDER/vis and DIR/FOLDER/preds. If names differ only in the suffix,
as do a.jpg and a.png, each has its own folder, DIR/a.jpg/vis and so on.

Objects below --score are not drawn; the JSON files contain all objects. Unreadable images are
reported and skipped. The tool works with any detector of mmdet.
"""

import argparse
import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from finola_mm.apis import (
    add_cfg_options,
    add_config_and_checkpoint,
    command_line,
    int_range,
    load_config,
    make_folder,
    progress,
)
from finola_mm.apis.images import Video, is_video
from finola_mm.datasets import find_images
from finola_mm.datasets.decoding import decode
from finola_mm.errors import UserError

if TYPE_CHECKING:  # requires mmdet
    from finola_mm.apis.detection import Detector


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Detect objects in images and videos')
    add_config_and_checkpoint(parser)
    parser.add_argument(
        'sources',
        nargs='+',
        metavar='SOURCES',
        help='image files, folders of images, video files; 0: the first webcam (untried)',
    )
    parser.add_argument('--out', required=True, help='folder to create')
    parser.add_argument(
        '--score',
        type=float,
        help='minimum score of drawn objects; default: visualization.score_thr of the config, '
        'or 0.3',
    )
    parser.add_argument(
        '--batch-size', type=int_range(1), default=1, help='batch size; default: %(default)s'
    )
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.score is not None and not 0 <= args.score <= 1:
        parser.error(f'--score must be from 0 to 1, got {args.score}')
    return args


def check_out_dir(out: str) -> None:
    folder = Path(out)
    if folder.is_file() or (folder.exists() and any(folder.iterdir())):
        raise UserError(f'--out {out} must be a new or empty folder; choose another one')


def group_by_folder(files: Sequence[Path], out: str) -> dict[Path, list[str]]:
    """Return output folder -> its files. In each, results are named after the files."""
    paths = sorted({Path(os.path.abspath(file)) for file in files})
    common = Path(os.path.commonpath([path.parent for path in paths]))
    stems = Counter(path.with_suffix('') for path in paths)
    groups: dict[Path, list[str]] = defaultdict(list)
    for path in paths:
        below = path.parent if stems[path.with_suffix('')] == 1 else path
        groups[Path(out, below.relative_to(common))].append(str(path))
    return groups


def skip_unreadable(files: list[Path]) -> list[Path]:
    """Return the files that are complete images; report the others."""
    readable = []
    for file in files:
        try:
            decode(file.read_bytes(), str(file))
        except (OSError, ValueError) as error:
            print(f'skipped: {error}')
        else:
            readable.append(file)
    if not readable:
        raise UserError(f'none of the {len(files)} images can be read; see the lines above')
    return readable


def picture_path(folder: Path, image: str) -> Path:
    """Return a path with the image's name; .png if OpenCV cannot write the format."""
    path = folder / Path(image).name
    return path if cv2.haveImageWriter(path.name) else path.with_suffix('.png')


def is_webcam(source: str) -> bool:
    """Return whether ``source`` is the number of a webcam, as no file has this name."""
    return source.isdigit() and not Path(source).exists()


def detect_in_images(
    detector: 'Detector', images: list[str], folder: Path, score: float, batch_size: int
) -> None:
    """Write the picture and the objects of each image."""
    found = detector.stream(images, threshold=0, batch_size=batch_size)
    for path, (image, detections) in zip(images, found, strict=True):
        drawn = detector.draw(image, detections.above(score))
        picture = picture_path(folder / 'vis', path)
        if not cv2.imwrite(str(picture), drawn[..., ::-1]):
            raise UserError(f'cannot write {picture}; check the free space of the disk')
        results = folder / 'preds' / f'{Path(path).stem}.json'
        results.write_text(json.dumps(detections.to_dict()))


def detect_in_video(
    detector: 'Detector', source: str | int, folder: Path, score: float, batch_size: int
) -> None:
    """Write an annotated video and the objects of each frame."""
    name = Path(str(source)).stem
    video = Video(source)
    found = detector.stream(video, threshold=0, batch_size=batch_size)
    writer = cv2.VideoWriter()
    with open(folder / 'preds' / f'{name}.jsonl', 'w') as results:
        try:
            for image, detections in progress(found, name, video.frames or None):
                if not writer.isOpened():
                    codec, fps = cv2.VideoWriter_fourcc(*'mp4v'), video.fps or 25
                    picture = str(folder / f'vis/{name}.mp4')
                    if not writer.open(picture, codec, fps, image.shape[1::-1]):
                        raise UserError(f'OpenCV cannot write the video {picture}')
                drawn = detector.draw(image, detections.above(score))
                writer.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
                results.write(json.dumps(detections.to_dict()) + '\n')
        finally:  # Ctrl-C, too, leaves a complete file
            writer.release()


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    from finola_mm.apis.detection import Detector  # requires mmdet

    cfg = load_config(args.config, options=args.cfg_options)
    webcams = {os.path.abspath(name): int(name) for name in args.sources if is_webcam(name)}
    files = find_images([source for source in args.sources if not is_webcam(source)])
    check_out_dir(args.out)
    make_folder(args.out)
    detector = Detector(cfg, args.checkpoint)
    videos = sorted({*map(Path, webcams), *filter(is_video, files)})
    if images := [file for file in files if not is_video(file)]:
        images = skip_unreadable(images)
    score = args.score
    if score is None:
        score = cfg.get('default_hooks', {}).get('visualization', {}).get('score_thr', 0.3)
    groups = group_by_folder([*images, *videos], args.out)
    for folder, group in groups.items():
        make_folder(folder / 'vis')
        make_folder(folder / 'preds')
        clips = [path for path in group if is_video(path) or path in webcams]
        stills = [path for path in group if path not in clips]
        detect_in_images(detector, stills, folder, score, args.batch_size)
        for path in clips:
            detect_in_video(detector, webcams.get(path, path), folder, score, args.batch_size)
    count = sum(map(len, groups.values())) - len(videos)
    print(f'wrote vis and preds of {count} images and {len(videos)} videos to {args.out}')


if __name__ == '__main__':
    main()
