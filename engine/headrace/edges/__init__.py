"""The edges: everything that touches the outside, Kafka, processes and Kubernetes, kept out of the stages."""
