"""Tests of the publisher distribution, without Kafka."""
