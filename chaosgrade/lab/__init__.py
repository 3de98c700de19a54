"""Simulators of client policies: what one does, before it is shipped."""
