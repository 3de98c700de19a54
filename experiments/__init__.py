"""What we break and what must hold: one Chaos Toolkit experiment per file."""
