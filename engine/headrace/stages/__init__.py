"""The decisions of Headrace, pure: no clock, no I/O, no Kafka. Time is an argument or an input record."""
