"""Check presented receipts against the service that issued them: its log, and the secret behind its filter digests."""

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.receipt import Event
from visual_memory.services.receipts.filter_digest import FilterDigests
from visual_memory.services.receipts.parse_receipt import (
    OTHER_FILTER,
    Receipt,
    names_filter,
    parse_receipt,
)
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.receipts.receipt_signature import NotValid


class ReceiptCheck:
    """Checks receipts. Create one per run, because it checks each tenant's log once.

    Args:
        log: of the service.
        filters: of the service.
    """

    def __init__(self, log: ReceiptLog, filters: FilterDigests) -> None:
        self._log = log
        self._filters = filters
        self._log_faults: dict[str, list[str]] = {}

    def __call__(self, text: str, condition: Filter | None = None) -> list[str]:
        """What is wrong with a receipt, or with the log that contains it; empty if nothing.

        Args:
            text: the receipt.
            condition: the filter that the receipt is said to have.
        """
        try:
            receipt = parse_receipt(text, self._log.signer)
        except NotValid as error:
            return [str(error)]
        if receipt.tenant not in self._log_faults:
            self._log_faults[receipt.tenant] = list(self._log.faults(receipt.tenant))
        of_filter = [] if condition is None else self._faults_of_filter(receipt, condition)
        return [*self._faults_in_log(receipt), *self._log_faults[receipt.tenant], *of_filter]

    def has_filter(self, text: str, condition: Filter) -> bool:
        """Whether a removal's receipt has this filter.

        Raises:
            NotValid: the text is no receipt of this service, or has no filter.
        """
        return self._has_filter(parse_receipt(text, self._log.signer), condition)

    def _has_filter(self, receipt: Receipt, condition: Filter) -> bool:
        if receipt.version == 1:
            return names_filter(receipt, condition)
        if receipt.event is not Event.DONE:
            raise NotValid(f"it names no filter, for it is of event {receipt.event}: present the removal's receipt")
        return bool(receipt.fields["filter_digest"] == self._filters.of(receipt.removal, condition))

    def _faults_in_log(self, receipt: Receipt) -> list[str]:
        entry = self._log.entry(receipt.tenant, receipt.number)
        if entry is None:
            end = self._log.end(receipt.tenant)
            return [f"it is entry {receipt.number} of the log, but the log has no such entry and ends at {end}"]
        if entry.text != receipt.entry:
            return [f"it is not in the log: entry {receipt.number} is another"]
        if receipt.version > 1 and receipt.event is Event.ERASED:
            done = self._log.find_one(receipt.tenant, receipt.removal, Event.DONE)
            if done is None or done.digest != receipt.fields["receipt"]:
                return ["it is the erasure's receipt of another removal"]
        return []

    def _faults_of_filter(self, receipt: Receipt, condition: Filter) -> list[str]:
        try:
            return [] if self._has_filter(receipt, condition) else [OTHER_FILTER]
        except NotValid as error:
            return [str(error)]
