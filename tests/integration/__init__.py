"""The use cases over a real engine in this process, with crashes and races made on purpose."""
