"""The records' database: API keys, removals, receipts, jobs, decisions, judgements, evaluations and the audit log."""
