"""Results of a search: its front, its trust report, and the options that no good network needs."""
