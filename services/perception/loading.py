"""From settings to an encoder. The heavy libraries are imported when one is loaded, not before."""

from services.perception.encoder import Encoder, EncoderUnusable
from services.settings import EncoderSettings

BUILT_IN = "efficientnet-lite0"


def load_encoder(settings: EncoderSettings) -> Encoder:
    """Load the encoder that the settings name.

    Args:
        settings: name, device, pooling, batch size and threads; the threads hold for the whole process.

    Returns:
        An encoder that has embedded its first picture. It is named after the model's hub name or its folder's last
        part, and after the pooling where that is not ``auto``.

    Raises:
        EncoderUnusable: there is no such model or device, or the model takes no pictures.
    """
    import torch

    device = torch.device(settings.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EncoderUnusable(
            f"encoder.device {settings.device}: PyTorch sees {torch.cuda.device_count()} such devices"
        )
    if settings.threads:  # else PyTorch's own choice, one per core
        torch.set_num_threads(settings.threads)
    if settings.name == BUILT_IN:
        from services.perception.efficientnet import load_efficientnet

        return load_efficientnet(settings.device, settings.batch_size)
    from services.perception.pretrained import load_pretrained

    return load_pretrained(settings.name, settings.pooling, settings.device, settings.batch_size)
