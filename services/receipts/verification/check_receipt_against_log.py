"""Checks receipts that somebody presents against the service that gave them: its log, and its secret."""

from pydantic import ValidationError

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.receipt import Event
from visual_memory.services.receipts.filter_digest import FilterDigests
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.receipts.receipt_signature import NotValid
from visual_memory.services.receipts.verification.parse_receipt import Receipt, parse_receipt

OTHER_FILTER = "it is of another filter"


class ReceiptCheck:
    """Checks receipts against the service that gave them; made for each run, for it reads a log once.

    Args:
        log: of the service.
        filters: of the service.
    """

    def __init__(self, log: ReceiptLog, filters: FilterDigests) -> None:
        self._log = log
        self._filters = filters
        self._faults: dict[str, list[str]] = {}

    def __call__(self, text: str, condition: Filter | None = None) -> list[str]:
        """What is wrong with a receipt, and with the log that it is of; empty where nothing is.

        Args:
            text: as it was handed out.
            condition: a filter that is said to be the receipt's.
        """
        try:
            receipt = parse_receipt(text, self._log.signer)
        except NotValid as error:
            return [str(error)]
        if receipt.tenant not in self._faults:
            self._faults[receipt.tenant] = list(self._log.faults(receipt.tenant))
        of_filter = [] if condition is None else self._faults_of_filter(receipt, condition)
        return [*self._faults_in_log(receipt), *self._faults[receipt.tenant], *of_filter]

    def is_of(self, text: str, condition: Filter) -> bool:
        """Whether the receipt of a removal is of a filter.

        Raises:
            NotValid: it is no receipt of this service, or names no filter.
        """
        return self._is_of(parse_receipt(text, self._log.signer), condition)

    def _is_of(self, receipt: Receipt, condition: Filter) -> bool:
        if receipt.version == 1:
            return names_filter(receipt, condition)
        if receipt.event is not Event.DONE:
            raise NotValid(f"it names no filter, for it is of event {receipt.event}: present the removal's receipt")
        return bool(receipt.said["filter_digest"] == self._filters.of(receipt.removal, condition))

    def _faults_in_log(self, receipt: Receipt) -> list[str]:
        entry = self._log.entry(receipt.tenant, receipt.number)
        if entry is None:
            end = self._log.end(receipt.tenant)
            return [f"it is entry {receipt.number} of the log, but the log has no such entry and ends at {end}"]
        if entry.text != receipt.entry:
            return [f"it is not in the log: entry {receipt.number} is another"]
        if receipt.version > 1 and receipt.event is Event.ERASED:
            done = self._log.find_one(receipt.tenant, receipt.removal, Event.DONE)
            if done is None or done.digest != receipt.said["receipt"]:
                return ["it is the erasure's receipt of another removal"]
        return []

    def _faults_of_filter(self, receipt: Receipt, condition: Filter) -> list[str]:
        try:
            return [] if self._is_of(receipt, condition) else [OTHER_FILTER]
        except NotValid as error:
            return [str(error)]


def names_filter(receipt: Receipt, condition: Filter) -> bool:
    """Whether a receipt of version 1, which names its filter in full, names this one."""
    try:
        return Filter.model_validate(receipt.said["filter"]) == condition
    except ValidationError:  # it named what is refused today
        return False
