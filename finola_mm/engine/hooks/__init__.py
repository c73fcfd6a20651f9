"""Hooks: checkpoints, resume, signals, non-finite losses, unreadable and slow data."""
