"""The committed lists of runs, and the tables of docs/results.md."""

import sys

import pytest

from tests.messages import shows


def test_every_run_has_its_own_name(studies):
    for name in studies.study.STUDIES:
        runs = list(getattr(studies, name).runs())
        assert len({run.name for run in runs}) == len(runs)


def test_the_tables_of_the_results_are_up_to_date(studies, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['report', '--check'])
    studies.report.main()


def test_only_the_text_between_the_markers_is_replaced(studies):
    begin, end = (mark.format('x') for mark in studies.report.MARKS)
    text = f'before\n{begin}old\n{end}after\n'
    assert studies.report.between_marks(text, 'x', 'new') == f'before\n{begin}new\n{end}after\n'
    values = (studies.report.RESULTS, begin.strip(), end.strip())
    with pytest.raises(ValueError, match=shows(*values)):
        studies.report.between_marks('no marks', 'x', 'new')
