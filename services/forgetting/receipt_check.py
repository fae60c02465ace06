"""Checks receipts that somebody presents against the service that gave them: its log, and its secret."""

from schemas.filter import Filter
from schemas.receipt import Event
from services.forgetting.filter_digest import FilterDigests
from services.forgetting.read_receipt import Receipt, read_receipt
from services.forgetting.receipt_log import ReceiptLog
from services.forgetting.receipt_signature import NotValid


class ReceiptCheck:
    """Checks receipts against the service that gave them.

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
            receipt = read_receipt(text, self._log.signer)
        except NotValid as error:
            return [str(error)]
        if receipt.tenant not in self._faults:
            self._faults[receipt.tenant] = list(self._log.faults(receipt.tenant))
        of_filter = [] if condition is None else self._faults_of_filter(receipt, condition)
        return [*self._faults_in_log(receipt), *self._faults[receipt.tenant], *of_filter]

    def is_of(self, text: str, condition: Filter) -> bool:
        """Whether a receipt, or a removal's first entry in the log, is of a filter."""
        said = self._log.signer.read(text).payload
        return bool(said["filter_digest"] == self._filters.of(said["removal"], condition))

    def _faults_in_log(self, receipt: Receipt) -> list[str]:
        entry = self._log.entry(receipt.tenant, receipt.number)
        if entry is None:
            end = self._log.end(receipt.tenant)
            return [f"it is entry {receipt.number} of the log, but the log has no such entry and ends at {end}"]
        if entry.text != receipt.entry:
            return [f"it is not in the log: entry {receipt.number} is another"]
        if receipt.event is Event.ERASED and receipt.said["receipt"] != self._removal_of(receipt):
            return ["it is the erasure's receipt of another removal"]
        return []

    def _removal_of(self, receipt: Receipt) -> str | None:
        """The digest of the first receipt of a removal."""
        done = self._log.find_one(receipt.tenant, receipt.removal, Event.DONE)
        return done.digest if done else None

    def _faults_of_filter(self, receipt: Receipt, condition: Filter) -> list[str]:
        if receipt.event is not Event.DONE:
            return [f"it names no filter, for it is of event {receipt.event}: present the removal's receipt"]
        return [] if self.is_of(receipt.entry, condition) else ["it is of another filter"]
