"""Tests of the model: values, their records and their texts."""
