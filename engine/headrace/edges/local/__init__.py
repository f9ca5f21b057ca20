"""Processes of this machine: local runs of flows, and what flows declare."""
