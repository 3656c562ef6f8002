"""`amuro doctor`: whether this machine, and the machines beside it, can do the work."""
