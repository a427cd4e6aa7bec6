"""Audio in, gallery out: decoding, embedding, index and record."""
