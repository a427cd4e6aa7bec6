"""From waveforms to speaker vectors."""
