"""Faust, as the role join runs it: its consumer, its tables and its recovery, made to lose nothing."""
