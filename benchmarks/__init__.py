"""Measurements on real parts, each beside a baseline of the same run."""
