"""Read a config for a tool, and reject command-line options that would have no effect."""

import argparse
import ast
import difflib
import inspect
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from ..errors import UserError, list_names

# Top-level config entries that are used after the file is read: the runner's arguments, others that
# MMEngine reads, and those of our tools. All others are variables of the config file itself.
KNOWN_ENTRIES = {
    *inspect.signature(Runner).parameters,
    'channels_last',
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

PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (PACKAGE / '.mim/configs', PACKAGE.parent / 'configs')  # of a wheel, of a checkout
CONFIGS = next(folder for folder in FOLDERS if folder.is_dir()).resolve()

NUMBER = re.compile(r'[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?', re.ASCII | re.IGNORECASE)
# A string in quotes; the quotes are at the ends of an element, unlike an apostrophe.
QUOTED = re.compile(r"""(?<![^\s[(,])(?:"[^"]*"|'[^']*')(?![^\s\]),])""")
INNERMOST = re.compile(r'\([^][()]*\)|\[[^][()]*\]')  # brackets
# MMEngine replaces '{{$NAME:default}}' by an environment variable.
VARIABLE = re.compile(r'\{\{\s*\$(\w+)\s*:\s*\S*?\s*\}\}')
SPECIAL = re.compile(r'[\x00-\x1f"\'\\{\ud800-\udfff]')  # the last: bytes that are not UTF-8
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
    if QUOTED.fullmatch(text):
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
    """Split at commas outside of quotes and brackets; None if brackets are not balanced."""
    hidden = QUOTED.sub(lambda quoted: ' ' * len(quoted[0]), text)
    while INNERMOST.search(hidden):
        hidden = INNERMOST.sub(lambda inner: ' ' * len(inner[0]), hidden)
    if re.search(r'[][()]', hidden):
        return None
    commas = [i for i, char in enumerate(hidden) if char == ',']
    parts = [text[i + 1 : j].strip() for i, j in pairwise([-1, *commas, len(text)])]
    return parts if parts[-1] else parts[:-1]


def resolve_config(path: str | Path) -> Path:
    """Return ``path`` if it is a file, or else the config of this package with that name.

    Names are those of ``finola configs``, ``selfsup/masked_finola_b``; ``finola_mm::`` or
    ``configs/`` may precede them, and ``.py`` may follow. ``finola_mm::`` never means a file.

    Raises:
        UserError: there is neither; the message lists similar names.
    """
    file = Path(path)
    if file.is_file():
        return file
    name = str(path).removeprefix('finola_mm::').removeprefix('configs/').removesuffix('.py')
    shipped = CONFIGS / f'{name}.py'
    if shipped.is_file():
        return shipped
    if file.is_dir():
        raise UserError(f'{path} is a folder; expected a config file')
    files = {p.name: p for p in file.parent.glob('*.py')}
    near = [files[similar] for similar in difflib.get_close_matches(file.name, files)]
    names = [p.relative_to(CONFIGS).with_suffix('').as_posix() for p in CONFIGS.rglob('*.py')]
    hint = list_names(near or difflib.get_close_matches(name, names)) or 'none'
    raise UserError(f'there is no config file {path}; similar names: {hint}')


def load_config(
    path: str | Path, *, options: dict | None = None, work_dir: str | None = None
) -> Config:
    """Read the config file at ``path``, merge ``options`` and set ``work_dir``.

    path: a file, or the name of a config of this package (``resolve_config``).
    work_dir: defaults to the config's own, or else to ``work_dirs/<name of the config>``.
    """
    file = resolve_config(path)
    if file.suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise UserError(f'a config file name must end in .py, .json, .yaml or .yml, got {path}')
    cfg = _read_file(str(file))
    for name in cfg.keys() - KNOWN_ENTRIES:
        if near := difflib.get_close_matches(name, KNOWN_ENTRIES, cutoff=0.9):
            raise UserError(f'{path} sets {name}, which nothing reads; did you mean {near[0]}?')
    for option, value in (options or {}).items():
        _check_effect(option, cfg)
        _check_number(option, value, cfg.to_dict())
    try:
        cfg.merge_from_dict(options or {})
    except (AttributeError, KeyError, TypeError) as error:  # an entry of a number; a list index
        raise UserError(
            f'--cfg-options {list_names(options or {})} does not fit the config ({error})'
        ) from None
    if {'max_epochs', 'max_iters'} <= set(cfg.get('train_cfg') or {}):
        raise UserError(
            f'train_cfg of {path} sets both max_epochs and max_iters, but a training loop counts '
            'either; set the one that the config sets'
        )
    if 'data_preprocessor' in cfg and 'model' in cfg:  # as MMEngine's Runner does
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs', file.stem))
    _remove_unused(cfg)
    return cfg


def _read_file(path: str) -> Config:
    """Read a config whose strings may contain environment variables with any characters."""
    original = Config._substitute_env_variables

    def substitute(source: str, target: str) -> dict:
        text = VARIABLE.sub(_escaped_value, Path(source).read_text(encoding='utf-8'))
        Path(target).write_text(text, encoding='utf-8')
        return original(target, target)  # defaults, and variables outside of strings

    with mock.patch.object(Config, '_substitute_env_variables', substitute):
        return Config.fromfile(path)


def _escaped_value(variable: re.Match) -> str:
    """Return the value of an environment variable for a string in a config file."""
    value = os.environ.get(variable[1])
    if value is None:
        return variable[0]
    if not value:
        raise UserError(f'the environment variable {variable[1]} is empty; set it, or unset it')
    return SPECIAL.sub(lambda char: rf'\u{ord(char[0]):04x}', value)


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


def require(cfg: Config, *names: str) -> None:
    """Raise ``UserError`` unless the config has these top-level entries."""
    missing = [name for name in names if cfg.get(name) is None]
    if missing:
        raise UserError(
            f'{cfg.filename} defines no {list_names(missing)}; choose a complete config'
        )


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


def _check_number(option: str, value: Any, entry: Any) -> None:
    """Reject text in place of a number of the config."""
    for key in option.split('.'):
        if isinstance(entry, (list, tuple)):
            entry = {str(i): item for i, item in enumerate(entry)}
        entry = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, str) and isinstance(entry, (int, float)) and not isinstance(entry, bool):
        raise UserError(f'--cfg-options {option}: expected a number such as {entry}, got {value!r}')


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
