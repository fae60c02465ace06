"""Retention, the export of a subject, the end of a tenant."""
