"""Close votes go to a vision-language model."""
