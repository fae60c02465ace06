"""``python -m services.cli``: how the supervisor starts its children."""

from services.cli.app import main

main()
