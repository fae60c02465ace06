"""The text of an erasure's receipt: what the erasure covers, and what operators must erase themselves."""

from visual_memory.schemas.receipt import Claim

ENGINE = "Points, vectors and their log were rewritten without what was removed, and the old files were deleted."
PICTURES = "The files of the pictures, and of what was made of them, were deleted from this machine's disk."
RECORDS = "Rows that were deleted were overwritten, and the database's write-ahead log was emptied."
INTAKE = "The intake's log was rewritten without what had left it."
CELERY = "What a producer gave to Celery is its broker's until it was put on the intake's stream."
COPIES = (
    "Snapshots and copies that others made of disks or databases before are their holders'. Backups of this service"
    " that are older than the removal still hold what it covered, and it stays away when they are restored."
)


def erasure_claim(engine_note: str, pictures_url: str | None, records_note: str, intake_note: str = "") -> Claim:
    """Write a sentence for each component whose bytes were erased.

    Args:
        engine_note: what the engine's operator must erase; empty if nothing.
        pictures_url: where the pictures are stored; None: on this machine.
        records_note: what the database's operator must erase; empty if nothing.
        intake_note: what the operator of the intake's Redis must erase; empty if nothing.
    """
    pictures = f"The pictures were deleted from {pictures_url}; its versions and backups are its operator's."
    return Claim(
        engine=engine_note or ENGINE,
        pictures=pictures if pictures_url else PICTURES,
        records=records_note or RECORDS,
        intake=f"{intake_note or INTAKE} {CELERY}",
        copies=COPIES,
    )
