"""Known faults, put back one at a time, each of which its check must find."""
