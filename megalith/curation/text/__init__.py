"""Text as the steps see it: encodings, words, fastText's models."""
