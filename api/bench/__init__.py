"""What this machine does with the encoder and with the vector index, measured where it stands."""
