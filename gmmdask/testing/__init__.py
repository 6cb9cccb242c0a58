"""What new parts are tested with: a naive reference, Hypothesis strategies, and test classes to inherit."""
