"""Data keys are sealed to a reader, on a decision that is proven here."""
