"""``python -m visual_memory.services.cli``: how the supervisor starts its children."""

from visual_memory.services.cli.app import main

main()
