"""How we break it: Chaos Toolkit actions, one fault family per module."""
