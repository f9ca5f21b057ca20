"""Something that a flow imports from beside itself."""

DEFAULT_REGION = "north"
