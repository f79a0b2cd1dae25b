"""What customers were promised: every order that was accepted, and what else was asked of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Promise:
    """An order that was accepted with a 2xx.

    `may_be_rejected`: there may not be enough stock or coupons for it. `may_expire`: its deadline comes soon, so the
    clock cancels it unless it was paid. `pay_asked` without `pay_accepted` means that
    the request got no answer, and so may have had its effect; the same for cancelling.
    """

    order_id: int
    customer_id: int
    items: Mapping[str, int]
    coupon: str | None
    total: int
    may_be_rejected: bool = False
    may_expire: bool = False
    pay_asked: bool = False
    pay_accepted: bool = False
    cancel_asked: bool = False
    cancel_accepted: bool = False

    def right_states(self) -> set[str]:
        """The states that the order may be in when everything is quiet."""
        if self.cancel_accepted:
            return {"cancelled"}
        states = {"paid"} if self.pay_accepted else {"confirmed"}
        if self.pay_asked:
            states.add("paid")
        if self.cancel_asked or (self.may_expire and not self.pay_accepted):
            states.add("cancelled")
        if self.may_be_rejected:
            states.add("rejected")
        return states


@dataclass(slots=True)
class Ledger:
    """All promises of a laboratory, to be shared by threads. `unanswered` requests may have made an order, or not."""

    promises: list[Promise] = field(default_factory=list)
    customers: set[int] = field(default_factory=set)
    stock: dict[str, int] = field(default_factory=dict)  # sku → pieces that came in
    unanswered: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, promise: Promise) -> None:
        with self._lock:
            self.promises.append(promise)

    def give_up(self) -> None:
        with self._lock:
            self.unanswered += 1

    def __len__(self) -> int:
        return len(self.promises)
