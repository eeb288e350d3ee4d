"""Where evaluations run: in this process, on processes of this machine, on a Ray cluster."""
