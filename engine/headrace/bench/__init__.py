"""Bench: what Headrace does on a cluster, each figure beside a baseline of the same run."""
