"""Change stored images so that it can be undone: relabel, mute, unmute and amend, with previews."""
