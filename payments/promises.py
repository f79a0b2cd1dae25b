"""What the audit checks of the money that was moved."""

from datetime import datetime
from uuid import UUID

from django.db import connections

from values.contexts import Found, Promise, rows_in, rows_of


def charges_have_payments(alias: str, until: datetime) -> Found:
    """The gateway acts before payments can write it down, so a payment that still asks may be behind its charge."""
    strays = rows_of(
        alias,
        "SELECT charge.key, charge.reference FROM payments_sandboxcharge AS charge"
        " LEFT JOIN payments_payment AS payment ON payment.gateway_reference = charge.reference"
        " WHERE charge.result = 'captured' AND payment.id IS NULL"
        " UNION ALL SELECT charge.key, charge.reference FROM payments_sandboxcharge AS charge"
        " LEFT JOIN payments_payment AS payment ON payment.refund_reference = charge.reference"
        " WHERE charge.result = 'refunded' AND payment.id IS NULL",
    )
    return rows_in(alias, "payments_sandboxcharge"), [
        f"charge {reference}" for key, reference in strays if not _is_asking(alias, key)
    ]


def _is_asking(alias: str, key: str) -> bool:
    kind, _, name = key.partition("-")
    try:
        payment_id = UUID(name)
    except ValueError:
        return False
    native = connections[alias].features.has_native_uuid_field
    found = rows_of(
        alias, "SELECT status FROM payments_payment WHERE id = %s", [payment_id if native else payment_id.hex]
    )
    return found == [("requested" if kind == "capture" else "refund_requested",)]


PROMISES = (
    Promise(
        name="charges_have_payments",
        title="The gateway has taken and given back no money that payments does not know of.",
        counts="charges",
        hint="Find the customer in the gateway's list and give the money back there.",
        find=charges_have_payments,
    ),
)
