"""What a model loses while it learns, and the remedies (taught in notebooks 04 and 05)."""
