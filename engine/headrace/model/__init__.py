"""The nouns of Headrace: plain values that every stage, role and command shares, without I/O."""
