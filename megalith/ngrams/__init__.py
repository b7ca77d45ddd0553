"""Words and n-grams of words in batches of texts: hashed, and found again."""
