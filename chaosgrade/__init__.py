"""chaosgrade: break an AWS system on purpose, measure what customers feel, undo it, grade it."""
