"""The intake without HTTP: a Redis stream for each tenant, to which any producer sends with one XADD."""
