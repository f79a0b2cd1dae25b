"""Payment gateways: the protocol, and a sandbox whose tokens choose the outcome.

A gateway is asked outside database transactions, at least once for each payment, and must act once per idempotency key.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from django.conf import settings
from django.db import transaction
from django.db.models import Sum
from django.utils.module_loading import import_string

from caching.breakers import Breaker, CircuitOpen
from eventing.errors import Transient
from payments.models import SandboxCharge
from sharding.router import database_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The money was taken; `reference` is the gateway's name for it."""

    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """The money was not taken; `reason` is a stable code such as `card_declined`."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunded:
    """The money was given back; `reference` is the gateway's name for it."""

    reference: str


class GatewayUnavailable(Transient):
    """The gateway did not answer; whether it acted is unknown, so it is asked again with the same key."""


class GatewayRefused(Exception):
    """The gateway will not do this however often it is asked: somebody has to look at it."""


# A refusal is an answer, too: only silence opens the circuit.
BREAKER = Breaker("payment gateway", failures=5, seconds=30, counted=GatewayUnavailable)


class Gateway(Protocol):
    """Amounts are in minor units. A repeated idempotency key gets the first answer again and moves no money.

    Both methods raise GatewayUnavailable if asking again may help, GatewayRefused if it cannot.
    """

    def capture(self, *, idempotency_key: str, token: str, amount: int, currency: str) -> Captured | Declined: ...

    def refund(self, *, idempotency_key: str, reference: str, amount: int, currency: str) -> Refunded: ...


def configured() -> Gateway:
    """The gateway that the settings name, behind its circuit breaker."""
    gateway: Gateway = import_string(settings.PAYMENT_GATEWAY)()
    return GuardedGateway(gateway)


@dataclass(frozen=True, slots=True)
class GuardedGateway:
    """Asks a gateway unless it was unavailable too often: then it is so at once, and not asked for a while."""

    gateway: Gateway

    def capture(self, *, idempotency_key: str, token: str, amount: int, currency: str) -> Captured | Declined:
        return _guarded(
            partial(
                self.gateway.capture, idempotency_key=idempotency_key, token=token, amount=amount, currency=currency
            )
        )

    def refund(self, *, idempotency_key: str, reference: str, amount: int, currency: str) -> Refunded:
        return _guarded(
            partial(
                self.gateway.refund,
                idempotency_key=idempotency_key,
                reference=reference,
                amount=amount,
                currency=currency,
            )
        )


def _guarded(ask: Callable[[], T]) -> T:
    try:
        return BREAKER.call(ask)
    except CircuitOpen as error:
        raise GatewayUnavailable(str(error)) from error


SLOW = "tok_slow"


def sandbox_answer(token: str, *, call: int, reference: str) -> Captured | Declined:
    """What the sandbox says to the `call`-th call (counted from 1) with one idempotency key."""
    match token:
        case "tok_error_then_ok" if call == 1:
            raise GatewayUnavailable("the sandbox fails the first call with this token")
        case "tok_ok" | "tok_slow" | "tok_error_then_ok":
            return Captured(reference=reference)
        case "tok_declined":
            return Declined(reason="card_declined")
        case _:
            return Declined(reason="unknown_token")


class SandboxGateway:
    """Moves no money, but keeps its promises across processes and restarts: its memory is the table SandboxCharge.

    A refund behaves as the token of its capture says: slow, or failing at the first call. Its transactions are
    `durable`, so that calling it inside another transaction is an error.
    """

    def capture(self, *, idempotency_key: str, token: str, amount: int, currency: str) -> Captured | Declined:
        charge = self._called(
            SandboxCharge(
                key=idempotency_key,
                kind=SandboxCharge.Kind.CAPTURE,
                token=token,
                amount=amount,
                currency=currency,
                reference=new_reference("ch"),
            )
        )
        if charge.result == SandboxCharge.Result.OPEN:
            charge = self._settle(charge)
        if charge.result == SandboxCharge.Result.DECLINED:
            return Declined(reason=charge.reason)
        return Captured(reference=charge.reference)

    def refund(self, *, idempotency_key: str, reference: str, amount: int, currency: str) -> Refunded:
        captured = (
            SandboxCharge.objects.using(database_of("payments"))
            .filter(reference=reference, currency=currency, result=SandboxCharge.Result.CAPTURED)
            .first()
        )
        if captured is None:
            raise GatewayRefused(f"there is no capture {reference} in {currency}")
        charge = self._called(
            SandboxCharge(
                key=idempotency_key,
                kind=SandboxCharge.Kind.REFUND,
                token=captured.token,
                amount=amount,
                currency=currency,
                reference=new_reference("re"),
                refund_of=reference,
            )
        )
        if charge.result == SandboxCharge.Result.OPEN:
            charge = self._settle(charge)
        return Refunded(reference=charge.reference)

    def _called(self, charge: SandboxCharge) -> SandboxCharge:
        """Count the call and return what is known under its key; raises GatewayRefused if that is something else."""
        alias = database_of("payments")
        with transaction.atomic(using=alias, durable=True):
            SandboxCharge.objects.using(alias).bulk_create([charge], ignore_conflicts=True)
            known = SandboxCharge.objects.using(alias).select_for_update().get(key=charge.key)
            for field in ("kind", "token", "amount", "currency", "refund_of"):
                if getattr(known, field) != getattr(charge, field):
                    raise GatewayRefused(f"the key {charge.key} was used before with another {field}")
            known.calls += 1
            known.save(using=alias, update_fields=["calls"])
        return known

    def _settle(self, charge: SandboxCharge) -> SandboxCharge:
        """Find and remember the answer; the answer of another process that came first stays."""
        if charge.token == SLOW:
            time.sleep(settings.SANDBOX_SLOW_SECONDS)
        answer = sandbox_answer(charge.token, call=charge.calls, reference=charge.reference)
        alias = database_of("payments")
        with transaction.atomic(using=alias, durable=True):
            charges = SandboxCharge.objects.using(alias).select_for_update()
            if charge.refund_of:
                self._check_refund(charge, charges.get(reference=charge.refund_of), alias)
            charge = charges.get(key=charge.key)
            if charge.result != SandboxCharge.Result.OPEN:
                return charge
            if isinstance(answer, Declined):
                charge.result, charge.reason = SandboxCharge.Result.DECLINED, answer.reason
            elif charge.refund_of:
                charge.result = SandboxCharge.Result.REFUNDED
            else:
                charge.result = SandboxCharge.Result.CAPTURED
            charge.save(using=alias, update_fields=["result", "reason"])
        return charge

    def _check_refund(self, charge: SandboxCharge, captured: SandboxCharge, alias: str) -> None:
        refunds = SandboxCharge.objects.using(alias).filter(refund_of=captured.reference).exclude(key=charge.key)
        refunded = refunds.filter(result=SandboxCharge.Result.REFUNDED).aggregate(sum=Sum("amount"))["sum"] or 0
        if refunded + charge.amount > captured.amount:
            raise GatewayRefused(
                f"{captured.reference} captured {captured.amount}, of which {refunded} went back already:"
                f" {charge.amount} more is too much"
            )


def new_reference(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
