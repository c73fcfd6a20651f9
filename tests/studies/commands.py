"""Arguments that the steps of a study pass to the tools."""

import argparse

from mmengine.config import DictAction


def arguments(step):
    """Parse the arguments of a step as tools/train.py does."""
    parser = argparse.ArgumentParser()
    parser.add_argument('script')
    parser.add_argument('config')
    parser.add_argument('--work-dir')
    parser.add_argument('--resume')
    parser.add_argument('--pretrained')
    parser.add_argument('--no-validate', action='store_true')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args(step.command)
