"""Vector indexes: projections of the record."""
