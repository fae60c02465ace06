"""Explain stored decisions: replay, counterfactual, intervention preview, influence."""
