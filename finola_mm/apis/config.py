"""Read a config for a tool, and reject command-line options that would have no effect."""

import argparse
import difflib
import inspect
from collections.abc import Iterator
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


class CfgOptions(DictAction):
    """The argparse action of ``--cfg-options``, key=value, as in MMEngine's tools."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if '=' not in value:
                raise argparse.ArgumentError(self, f'{value!r} has no "="; expected key=value')
        super().__call__(parser, namespace, values, option_string)


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
    cfg = Config.fromfile(path)
    for option in options or {}:
        _check_effect(option, cfg)
    cfg.merge_from_dict(options or {})
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs', file.stem))
    return cfg


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
