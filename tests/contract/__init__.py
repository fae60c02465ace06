"""What every engine of the memory must do alike."""
