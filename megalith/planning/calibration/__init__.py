"""Published and measured runs, what the constants are fitted to, and how far predictions are from them."""
