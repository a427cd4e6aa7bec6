"""Background processing of bulk audio."""
