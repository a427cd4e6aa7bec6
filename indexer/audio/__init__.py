"""From files, bytes and streams to 16 kHz waveforms."""
