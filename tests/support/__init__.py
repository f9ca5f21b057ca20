"""What the tests share: real servers to test against, and plain helpers to fill and watch them."""
