"""The downstreams wing."""
