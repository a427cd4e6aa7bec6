"""Bulk ingest: what is asked for becomes shards that any number of workers work through, each file once."""
