"""What payments reacts to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eventing.recorded import Metadata, Recorded
from eventing.subscribers import Subscriber
from orders.events import OrderCancelled, OrderRefunded, OrderRejected
from payments import handlers
from payments.events import PaymentRequested, RefundRequested
from sharding.router import database_of

payments = Subscriber("payments", database=lambda recorded: database_of("payments"))


@payments.effect(PaymentRequested)
def capture(requested: Recorded[PaymentRequested]) -> Callable[[], None]:
    return handlers.capture(requested)


@payments.effect(RefundRequested)
def refund(requested: Recorded[RefundRequested]) -> Callable[[], None]:
    return handlers.refund(requested)


@payments.on(OrderCancelled, OrderRejected, OrderRefunded)
def close_accounts(batch: Sequence[Recorded[OrderCancelled | OrderRejected | OrderRefunded]]) -> None:
    handlers.close_accounts(
        [
            handlers.Closing(
                order_id=recorded.stream_id,
                customer_id=recorded.event.customer_id,
                reason=recorded.event.TYPE.replace(".", "_"),
                metadata=Metadata.caused_by(recorded, actor=handlers.ACTOR),
            )
            for recorded in batch
        ]
    )
