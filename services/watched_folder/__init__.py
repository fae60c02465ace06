"""Watch a folder, and send its new pictures to a tenant's stream."""
