"""Events of tenants: published by every process into capped streams of the broker's Redis, read by the API."""
