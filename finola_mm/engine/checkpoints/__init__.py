"""Checkpoints.

``checkpoint_file`` reads and writes them, ``state_dict_match`` loads them into models, and
``resume_point`` finds the one from which a run resumes.
"""
