"""Kubernetes: its API, what is watched there, and who may lead."""
