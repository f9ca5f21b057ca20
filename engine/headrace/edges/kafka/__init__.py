"""Kafka: its clients, its topics, what is kept in them, and the broker of the embedded mode."""
