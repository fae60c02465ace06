"""Vision-language models: a question with pictures goes to one over HTTP, and one of the offered labels comes back."""
