"""The demo: the tour on the paper's data, and a small run of training with two refits."""
