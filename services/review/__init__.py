"""The review queue: what is worth a look, what was looked at and by whom, and who looks at what at present."""
