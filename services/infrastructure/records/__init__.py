"""The records: keys, removals and their log, blocks, jobs, decisions, judgements, evaluations, audit; in a database."""
