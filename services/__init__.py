"""The rooms of the service; `services.bootstrap` wires what they hold."""
