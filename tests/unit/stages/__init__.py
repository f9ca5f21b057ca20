"""Tests of the stages, from the design's semantics and not from the code."""
