"""The demo: two real flows, a real Kafka, a stream of events, and a check that exactly the right runs came of it."""
