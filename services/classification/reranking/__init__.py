"""Re-rank close votes by a vision-language model."""
