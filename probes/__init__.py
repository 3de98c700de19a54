"""What we observe while it is broken: Chaos Toolkit probes and the observers of a run."""
