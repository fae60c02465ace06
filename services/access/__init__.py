"""Access control: API keys, rate limits, idempotency keys and the audit log."""
