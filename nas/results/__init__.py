"""What a search has found: its front, how far it can be trusted, and what no good network needs."""
