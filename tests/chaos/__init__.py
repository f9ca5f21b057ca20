"""Chaos and soak: Kafka, the roles' processes and an API server under load, while a plan breaks them."""
