"""What may be asked of payments."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPayment:
    """Pay an order with what `token` stands for at the gateway. `amount` is in minor units of the currency.

    The caller chooses `payment_id`, a random UUID, because the order hears of it before.
    """

    order_id: int
    payment_id: str
    customer_id: int
    amount: int
    currency: str
    token: str
    at: datetime
