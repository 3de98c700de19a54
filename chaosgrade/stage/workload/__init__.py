"""The sample system that runs on the stage, written as a customer would write it."""
