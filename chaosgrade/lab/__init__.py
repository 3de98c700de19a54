"""Simulators of client policies: what a policy does to a dependency, before it is shipped."""
