"""A read-only dashboard of the database: studies, fronts, histories, training curves and trust reports.

Pages (`dashboard/pages/`) are glue: they ask `queries` for values and `charts` and `drawing` for figures, and lay
them out.
`dashboard.serve.command` gives the command line that starts the server.
"""
