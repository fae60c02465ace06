"""Previews of removals, retention limits, the export of a subject, and the end of a tenant."""
