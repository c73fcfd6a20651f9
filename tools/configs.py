"""List the configs of this package, or copy one to change it.

    python tools/configs.py [PATTERN]
    python tools/configs.py --copy NAME FILE.py

All tools accept the names in place of a config file: selfsup/masked_finola_b. A copy derives from
the same bases as the original, by name: finola_mm::det/detr_mf_dec211_w720.py. The tools of
mmpretrain and mmdet read it, too.
"""

import argparse
import ast
import difflib
import os
import re
from fnmatch import fnmatch
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='List the configs of this package, or copy one')
    parser.add_argument(
        'pattern', nargs='?', default='', help='part of a name; may contain * and ?'
    )
    parser.add_argument('--copy', nargs=2, metavar=('NAME', 'FILE'), help='copy a config to FILE')
    return parser.parse_args()


def shipped() -> dict[str, Path]:
    """Return name -> file of each config, without the common bases."""
    files = sorted(CONFIGS.rglob('*.py'))
    names = {file.relative_to(CONFIGS).with_suffix('').as_posix(): file for file in files}
    return {name: file for name, file in names.items() if not name.startswith('_base_/')}


def first_sentence(file: Path) -> str:
    """Return the first sentence of the comment at the head of a config."""
    comment = re.match(r'(#.*\n)*', file.read_text(encoding='utf-8'))[0]
    text = ' '.join(line.strip('# ') for line in comment.splitlines())
    return re.split(r'\.\s', text)[0].rstrip('.')


def with_bases_by_name(file: Path) -> str:
    """Return the text of a config that may be in any folder."""
    text = file.read_text(encoding='utf-8')
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == '_base_':
            for node in ast.walk(statement.value):
                if isinstance(node, ast.Constant) and '::' not in node.value:
                    base = os.path.relpath(file.parent / node.value, CONFIGS)
                    # MMEngine finds our configs once finola_mm is imported.
                    by_name = f"__import__('finola_mm') and 'finola_mm::{base}'"
                    text = text.replace(ast.get_source_segment(text, node), by_name)
    return text


def main() -> None:
    args = parse_args()
    configs = shipped()
    if args.copy:
        name, out = args.copy[0].removesuffix('.py'), Path(args.copy[1])
        if name not in configs:
            near = difflib.get_close_matches(name, configs) or ['none']
            raise SystemExit(f'configs: no config {name}; similar names: {", ".join(near)}')
        if out.suffix != '.py' or out.exists() or not out.parent.is_dir():
            raise SystemExit(f'configs: expected a new .py file in an existing folder, got {out}')
        out.write_text(with_bases_by_name(configs[name]), encoding='utf-8')
        print(f'wrote {out}')
        return
    found = {name: file for name, file in configs.items() if fnmatch(name, f'*{args.pattern}*')}
    if not found:
        raise SystemExit(f'configs: no name contains {args.pattern!r}; without it, all are listed')
    width = max(map(len, found))
    for name, file in found.items():
        print(f'{name:{width}}  {first_sentence(file)}')


if __name__ == '__main__':
    main()
