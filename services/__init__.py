"""The use cases, a module each, and the rooms that they stand on; `services.bootstrap` wires them."""
