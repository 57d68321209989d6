"""The upstreams wing."""
