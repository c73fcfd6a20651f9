"""Read a config for a tool, and reject command-line options that would have no effect."""

import argparse
import ast
import difflib
import inspect
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from ..errors import UserError, list_names

# Top-level config entries that are used after the file is read: the runner's arguments, others that
# MMEngine reads, and those of our tools. All others are variables of the config file itself.
KNOWN_ENTRIES = {
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

NUMBER = re.compile(r'[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?', re.ASCII | re.IGNORECASE)
# MMEngine replaces '{{$NAME:default}}' by an environment variable.
SPECIAL = re.compile(r'[\x00-\x1f"\'\\{\ud800-\udfff]')  # the last: bytes that are not UTF-8
VARIABLE = re.compile(r'\{\{\s*\$(\w+)')
# The hooks of every MMEngine runner.
DEFAULT_HOOKS = 'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'
# Data loader arguments that torch accepts only with worker processes.
NEED_WORKERS = ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context')


class CfgOptions(DictAction):
    """The argparse action of ``--cfg-options``, key=value; MMEngine's removes white space."""

    def __call__(self, parser, namespace, values, option_string=None):
        options = dict(getattr(namespace, self.dest) or {})
        for setting in values:
            key, equals, value = setting.partition('=')
            if not equals or not key or key != key.strip():
                raise argparse.ArgumentError(
                    self, f'got {setting!r}; expected key=value without spaces around "="'
                )
            options[key] = parse_value(value)
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """Return the number, boolean, None, list or tuple that ``text`` denotes, or else ``text``.

    The elements of ``[a, b]`` and ``(a, b)`` need no quotes. Without brackets, only numbers and the
    like form a list (``1,2``), since a file name may contain a comma. In quotes, all is text.
    """
    if len(text) > 1 and text[0] in '\'"' and text.find(text[0], 1) == len(text) - 1:
        return text[1:-1]
    if NUMBER.fullmatch(text) or text == 'None':
        return ast.literal_eval(text)
    if text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    if text[:1] + text[-1:] in ('[]', '()') and (parts := _split_at_commas(text[1:-1])) is not None:
        values = [parse_value(part) for part in parts]
        return tuple(values) if text[0] == '(' else values
    if ',' in text and (parts := _split_at_commas(text)) and parts != [text]:
        values = [parse_value(part) for part in parts]
        if all(value != part for value, part in zip(values, parts, strict=True)):
            return values
    return text


def _split_at_commas(text: str) -> list[str] | None:
    """Split at commas outside of brackets and quotes; None if these are not balanced."""
    parts, depth, quote = [''], 0, ''
    for char in text:
        if quote:
            quote = '' if char == quote else quote
        elif char in '\'"' and parts[-1].rstrip()[-1:] in '[(,':  # not the apostrophe of a word
            quote = char
        else:
            depth += (char in '[(') - (char in ')]')
        if depth < 0:
            return None
        if char == ',' and not depth and not quote:
            parts.append('')
        else:
            parts[-1] += char
    parts = [part.strip() for part in parts]
    return None if depth or quote else parts if parts[-1] else parts[:-1]


def load_config(
    path: str | Path, *, options: dict | None = None, work_dir: str | None = None
) -> Config:
    """Read the config file at ``path``, merge ``options`` and set ``work_dir``.

    ``work_dir`` defaults to the config's own, or else to ``work_dirs/<name of the config>``.
    """
    file = Path(path)
    if file.is_dir():
        raise UserError(f'{path} is a folder; expected a config file')
    if not file.is_file():
        near = difflib.get_close_matches(file.name, [p.name for p in file.parent.glob('*.py')])
        hint = list_names(file.parent / name for name in near) or 'none'
        raise UserError(f'there is no config file {path}; similar names: {hint}')
    if file.suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise UserError(f'a config file name must end in .py, .json, .yaml or .yml, got {path}')
    with _escaped_variables(str(path)):
        cfg = Config.fromfile(path)
    for option in options or {}:
        _check_effect(option, cfg)
    try:
        cfg.merge_from_dict(options or {})
    except (AttributeError, KeyError, TypeError) as error:  # an entry of a number; a list index
        raise UserError(
            f'--cfg-options {list_names(options or {})} does not fit the config ({error})'
        ) from None
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs', file.stem))
    _remove_unused(cfg)
    return cfg


@contextmanager
def _escaped_variables(path: str) -> Iterator[None]:
    """Escape the variables in the strings of a config while MMEngine edits its text.

    A character becomes its escape sequence in Python, with a second backslash for ``re.sub``.
    """
    original = {name: os.environ[name] for name in _variables(path) if name in os.environ}
    try:
        for name, value in original.items():
            if not value:
                raise UserError(f'the environment variable {name} is empty; set it, or unset it')
            os.environ[name] = SPECIAL.sub(lambda char: rf'\\u{ord(char[0]):04x}', value)
        yield
    finally:
        os.environ.update(original)


def _variables(path: str) -> Iterator[str]:
    """Yield the environment variables in the strings of a config file and of its bases."""
    yield from VARIABLE.findall(Path(path).read_text(encoding='utf-8'))
    for base in Config._get_base_files(path):
        yield from _variables(Config._get_cfg_path(base, path)[0])


def _remove_unused(cfg: Config) -> None:
    """Remove hooks set to None, and data loader arguments that need worker processes."""
    hooks = cfg.get('default_hooks') or {}
    # Of MMEngine's own hooks, None removes the default.
    for name in [name for name in hooks if hooks[name] is None and name not in DEFAULT_HOOKS]:
        hooks.pop(name)
    if cfg.get('custom_hooks'):
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook is not None]
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader') or {}
        if not loader.get('num_workers'):
            for name in NEED_WORKERS:
                loader.pop(name, None)


def use_own_coco_metric(cfg: Config) -> None:
    """Replace mmdet's ``CocoMetric`` by ``finola_mm.CocoMetric``, which corrects its AP."""
    for split in ('val', 'test'):
        evaluator = cfg.get(f'{split}_evaluator') or ConfigDict()
        for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
            if f'{cfg.get("default_scope")}.{metric.get("type")}'.endswith('mmdet.CocoMetric'):
                metric.type = 'finola_mm.CocoMetric'
                # The config that the run writes must import the metric, too.
                imports = cfg.setdefault('custom_imports', ConfigDict(imports=[]))
                names = imports.imports if isinstance(imports.imports, list) else [imports.imports]
                imports.imports = [*names, 'finola_mm.det']
                import_modules_from_strings('finola_mm.det')


def _check_effect(option: str, cfg: Config) -> None:
    """Reject an option that nothing reads; MMEngine would merge it silently."""
    name = option.partition('.')[0]
    copied = name == 'data_preprocessor' and 'data_preprocessor' in cfg.get('model', {})
    if name in KNOWN_ENTRIES and not copied:
        return
    if name not in cfg:
        near = list_names(difflib.get_close_matches(name, KNOWN_ENTRIES)) or 'none'
        raise UserError(
            f'--cfg-options {option}: the config has no entry {name}; similar names: {near}'
        )
    entries = [entry for entry in cfg if entry in KNOWN_ENTRIES]
    places = [use for entry in entries for use in _find_uses(name, cfg[name], cfg[entry], entry)]
    raise UserError(
        f'--cfg-options {option}: {name} is a variable that is used only while the config file is '
        'read, so changing it here has no effect. Set the entries that depend on it instead: '
        + (list_names(places) or 'no entry has its name or value')
    )


def _find_uses(name: str, value: Any, part: Any, above: str) -> Iterator[str]:
    """Yield the entries below ``part`` with this name, or equal to ``value`` (a list or dict).

    ``above`` is the path of ``part`` in the config.
    """
    if isinstance(part, (list, tuple)):
        part = dict(enumerate(part))
    for key, entry in part.items() if isinstance(part, dict) else ():
        if key == name or (isinstance(value, (dict, list)) and entry == value):
            yield f'{above}.{key}'
        yield from _find_uses(name, value, entry, f'{above}.{key}')
