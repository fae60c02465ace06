"""The file formats of pictures: which one bytes are, and what Pillow does not read of them."""
