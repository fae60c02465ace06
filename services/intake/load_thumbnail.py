"""Load the thumbnail of a stored image; make it where there is none, as for images that earlier versions accepted."""

from dataclasses import dataclass

from visual_memory.schemas.errors import NotFound
from visual_memory.schemas.image import StoredImage
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.memory_facade import Memory


@dataclass(frozen=True)
class LoadThumbnail:
    """The use case."""

    memory: Memory
    pictures: PictureStore
    decoder: Decoder

    def __call__(self, image: StoredImage) -> bytes:
        """A JPEG of the picture, as `services.decoding.pillow_decode.thumbnail` makes it.

        Args:
            image: as it was read from the memory just now.

        Raises:
            NotFound: the image came as a vector, or was removed or replaced meanwhile.
            InvalidPicture, UnsupportedFormat, TooLarge, DecoderFailed: the picture cannot be decoded any more.
        """
        stored = self.pictures.thumbnail(image.picture)
        return self._make(image) if stored is None else stored

    def _make(self, image: StoredImage) -> bytes:
        """Make a thumbnail and store it, unless the image is gone.

        Whoever deletes or replaces an image deletes its point first, and its files afterwards. So a thumbnail that is
        written while the point is there is deleted with it; otherwise it is deleted here. If this process is killed
        before that, the search for files without a point finds it.
        """
        made = self.decoder.thumbnail(image.tenant, self.pictures.read(image.picture))
        is_there = False
        try:
            self.pictures.store_thumbnail(image.picture, made)
            stored = self.memory.images.get(image.tenant, [image.image_id]).get(image.image_id)
            is_there = stored is not None and stored.picture == image.picture
        finally:
            if not is_there:
                self.pictures.delete_thumbnail(image.picture)
        if not is_there:
            raise NotFound(f"there is no image {image.image_id!r}")
        return made
