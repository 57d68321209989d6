"""Stage 2: every layer of a frozen upstream, computed once per distinct sound, kept by content."""
