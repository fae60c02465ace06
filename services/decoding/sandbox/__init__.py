"""The processes that decode: started and bounded by the pool, confined by the kernel."""
