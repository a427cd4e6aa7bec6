"""The `voxdex` command."""
