"""Another encoder without a pause: it is added beside the first, filled, compared, switched to; the old one dropped."""
