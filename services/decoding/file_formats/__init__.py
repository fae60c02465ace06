"""What Pillow lacks or reads too strictly, by file format."""
