"""Headrace: events from Kafka start workflows."""
