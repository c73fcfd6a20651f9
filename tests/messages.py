"""Patterns for the values that a message must show."""

import re


def shows(*values: object) -> str:
    """A pattern for ``match``: all values, in any order and any wording."""
    return '(?s)' + ''.join(f'(?=.*{re.escape(str(value))})' for value in values)
