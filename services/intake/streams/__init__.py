"""Intake over Redis streams: producers send images and removal requests of a tenant with XADD."""
