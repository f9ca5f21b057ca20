"""Unit tests: the pure parts, against literal examples and against oracles written apart from them."""
