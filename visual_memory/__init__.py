"""An image classifier that you teach by showing and un-teach by asking."""
