"""The record: typed models, sessions and named queries."""
