"""Decisions about voices; NumPy only."""
