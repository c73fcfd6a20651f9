"""Read a config for a tool: every mistake ends in one message that names it and its remedy."""

import argparse
import difflib
import inspect
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

# What is read of a config after its file: by the runner's arguments, by the runner elsewhere, and
# by our tools. Everything else at the top level is a variable that the file itself uses up.
READ = {
    *inspect.signature(Runner).parameters,
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'sync_bn',
    'runner_type',
    'strategy',
    'missing_data_hint',
    'test_pipeline',
}

# Code that is not of the user's own: these packages, from wherever they are installed, and what
# lies in such places; "<" begins what is no file.
OURS = ('finola_mm', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain')
INSTALLED = (sysconfig.get_path('stdlib'), '<')
PACKAGES = ('site-packages', 'dist-packages')
NAMED = 3  # entries that a message names


class CfgOptions(DictAction):
    """Settings of the command line, key=value, as MMEngine's tools take them."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if '=' not in value:
                raise argparse.ArgumentError(self, f'{value!r} has no "="; expected key=value')
        super().__call__(parser, namespace, values, option_string)


def unknown_setting(error: TypeError, options: dict | None) -> str | None:
    """Of ``options`` the one that a class has refused, and what it said; None: it was no option."""
    refused = re.search(
        r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error)
    )
    for option in options or {}:
        if refused and option.rpartition('.')[2] == refused[2]:
            return f'--cfg-options {option}: {refused[1]} has no {refused[2]}'
    return None


def in_own_module(error: Exception) -> bool:
    """Whether the tool that caught it met code of the user's own: the traceback is wanted."""
    tool, *called = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    own = (
        frame.f_code.co_filename
        for frame in called
        if frame.f_globals.get('__name__', '').partition('.')[0] not in OURS
    )
    return any(
        file not in ('', tool.f_code.co_filename)
        and not file.startswith(INSTALLED)
        and not any(folder in Path(file).parts for folder in PACKAGES)
        for file in own
    )


def load_config(path: str, *, options: dict | None = None, work_dir: str | None = None) -> Config:
    """Read the config file at ``path``, merge ``options``, settle ``work_dir``.

    ``work_dir``: the argument, else the config's own, else ``work_dirs/<name of the config>``.

    Raises:
        FileNotFoundError: no such config; the message proposes the nearest names.
        ValueError: an option that would change nothing.
        ImportError: a ValueError of the file itself or of a module that it imports.
    """
    file = Path(path)
    if not file.is_file():
        near = difflib.get_close_matches(file.name, [p.name for p in file.parent.glob('*.py')])
        hint = ', '.join(str(file.parent / name) for name in near) or 'nothing'
        raise FileNotFoundError(f'no config file {path}; near it: {hint}')
    try:
        cfg = Config.fromfile(path)
    except ValueError as error:
        if in_own_module(error):  # the file itself, or in what it imports
            raise ImportError(f'{path} fails while it is read: {error}') from error
        raise
    for option in options or {}:
        _check_effect(option, cfg)
    cfg.merge_from_dict(options or {})
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs', file.stem))
    return cfg


def _check_effect(option: str, cfg: Config) -> None:
    """Refuse an option that nobody would read: merging one is silent."""
    name = option.partition('.')[0]
    copied = name == 'data_preprocessor' and 'data_preprocessor' in cfg.get('model', {})
    if name in READ and not copied:
        return
    if name in cfg:
        places = [
            place for top in cfg if top in READ for place in _places(name, cfg[name], cfg[top], top)
        ]
        more = f' and {len(places) - NAMED} more' if len(places) > NAMED else ''
        filled = ', '.join(places[:NAMED]) + more if places else 'none has its name or its value'
        raise ValueError(
            f'--cfg-options {option}: {name} is a variable that the config file uses while it is '
            f'read, so a later change has no effect; set the entries that it fills in ({filled})'
        )
    near = ', '.join(difflib.get_close_matches(name, READ)) or 'nothing'
    raise ValueError(f'--cfg-options {option}: a config has no {name}; near it: {near}')


def _places(name: str, value: Any, part: Any, above: str) -> Iterator[str]:
    """Where an entry of this name, or a list or dict like this value, stands in a config's part."""
    entries = part.items() if isinstance(part, dict) else ()
    if isinstance(part, (list, tuple)):
        entries = enumerate(part)
    for key, entry in entries:
        if key == name or (isinstance(value, (dict, list)) and entry == value):
            yield f'{above}.{key}'
        yield from _places(name, value, entry, f'{above}.{key}')
