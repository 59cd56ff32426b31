"""What makes, runs and shows the notebooks; no lesson imports it."""
