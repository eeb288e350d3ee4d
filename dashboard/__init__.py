"""A read-only window on the database of a search: studies, fronts, histories, training curves and trust.

Pages (`dashboard/pages/`) are glue: they ask `queries` for values and `charts` and `drawing` for figures, and lay
them out.
`dashboard.serve.command` gives the command line that starts the server.
"""
