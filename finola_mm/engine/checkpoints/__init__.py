"""Checkpoints: reading and writing files, matching state dicts, finding the one to resume."""
