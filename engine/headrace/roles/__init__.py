"""The loops that feed the stages from Kafka and carry their outputs out."""
