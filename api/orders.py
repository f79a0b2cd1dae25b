"""Orders in the API. A customer sees and changes only their own; somebody else's order does not exist for them."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Annotated, Any

import msgspec
from django.http import HttpResponse
from django.urls import reverse
from ninja import Header, Router
from pydantic import AfterValidator, AliasChoices, BaseModel, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.schemas import PRINTABLE, Answer, Body, Cursor, Limit, Page, from_cursor, schema_of, to_cursor
from api.tokens import CustomerRequest
from checkout import service as checkout
from eventing.recorded import Recorded
from orders import domain as orders
from orders import selectors
from orders.domain import MAX_LINES, MAX_QUANTITY, OrderNotFound, Status, sum_of
from orders.events import Address, OrderPlaced
from orders.handlers import Placement
from orders.selectors import OrderDetail
from payments import selectors as payments
from payments.handlers import TOKEN
from sharding import numbers
from sharding.numbers import InvalidOrderNumber
from values.countries import COUNTRIES

Position = Annotated[int, msgspec.Meta(ge=1, le=numbers.HIGHEST)]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,255}$",
        description="Your own name for this request (a UUID, say): sent again, it never makes a second order.",
    ),
]


def _country(code: str) -> str:
    if code not in COUNTRIES:
        raise PydanticCustomError("unknown_country", "Expected the ISO 3166-1 code of a country that we ship to")
    return code


Country = Annotated[str, AfterValidator(_country), WithJsonSchema({"type": "string", "enum": sorted(COUNTRIES)})]

ANY = "ANY"  # in the place of an order's number

LOCATION = {"responses": {202: {"headers": {"Location": {"description": "The order.", "schema": {"type": "string"}}}}}}

router = Router(tags=["orders"])


class LineRequest(Body):
    sku: Annotated[str, Field(min_length=1, max_length=40, pattern=PRINTABLE)]
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)]


class AddressRequest(Body):
    """Where the order is to go; `country` is an ISO 3166-1 alpha-2 code."""

    name: Annotated[str, *schema_of(orders.NAME)]
    street: Annotated[str, *schema_of(orders.STREET)]
    postal_code: Annotated[str, *schema_of(orders.POSTAL_CODE)]
    city: Annotated[str, *schema_of(orders.CITY)]
    country: Country


class OrderRequest(Body):
    """A product may be named in several lines; they become one."""

    lines: Annotated[list[LineRequest], Field(min_length=1, max_length=MAX_LINES)]
    coupon: Annotated[str, Field(min_length=1, max_length=40, pattern=PRINTABLE)] | None = None
    ship_to: AddressRequest | None = None


class PayRequest(Body):
    """`payment_token` stands for a means of payment at the gateway; the sandbox knows `tok_ok`, `tok_declined`, …"""

    payment_token: Annotated[str, *schema_of(TOKEN)]


class CancelRequest(Body):
    """Nothing needs to be said."""


class Line(Answer):
    sku: str
    name: str
    quantity: int
    unit_price: int
    amount: int


class ShipTo(Answer):
    name: str
    street: str
    postal_code: str
    city: str
    country: str


class Payment(Answer):
    """The latest attempt to pay; `reason` is the code of a refusal and `message` its text."""

    progress: payments.Progress
    payment_id: str
    reason: str
    message: str


class OrderSummary(Answer):
    """Amounts in minor units of `currency`.

    `expires_at` is when the order is cancelled unless it is paid: at the deadline, or later while a payment is in
    progress.
    """

    number: str
    status: Status
    currency: str
    subtotal: int
    discount: int
    total: int
    coupon: Annotated[str | None, Field(validation_alias=AliasChoices("coupon", "coupon_code"))]
    placed_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    reason: str


class Order(OrderSummary):
    lines: list[Line]
    ship_to: ShipTo | None
    payment: Payment | None


class HistoryEvent(BaseModel):
    """Something that has happened to the order; `data` has the fields of the event's type and schema version."""

    id: str
    version: int
    type: str
    schema_version: int
    recorded_at: datetime
    correlation_id: str
    causation_id: str | None
    data: dict[str, Any]


@router.post("", response={202: Order}, operation_id="place_order", openapi_extra=LOCATION)
def place_order(
    request: CustomerRequest, body: OrderRequest, idempotency_key: IdempotencyKey, response: HttpResponse
) -> Order:
    """Place an order. It is accepted at once, and confirmed or rejected when its stock and coupon are checked."""
    placement = checkout.place(
        request.auth,
        [(line.sku, line.quantity) for line in body.lines],
        body.coupon,
        key=idempotency_key,
        metadata=checkout.metadata_for(request.auth),
        ship_to=None if body.ship_to is None else Address(**body.ship_to.model_dump()),
    )
    order = _order_as_placed(placement)
    response["Location"] = _address(order.number)
    return order


@router.get("", response=Page[OrderSummary], operation_id="list_orders")
def list_orders(request: CustomerRequest, cursor: Cursor = None, limit: Limit = 20) -> Page[OrderSummary]:
    """The customer's orders, newest first, page by page."""
    before = from_cursor(cursor, Position) if cursor is not None else None
    rows = selectors.orders_of(request.auth, before=before, limit=limit + 1)
    return Page[OrderSummary](
        items=[OrderSummary.model_validate(row) for row in rows[:limit]],
        next_cursor=to_cursor(rows[limit - 1].id) if len(rows) > limit else None,
    )


@router.get("/{number}", response=Order, operation_id="get_order")
def get_order(request: CustomerRequest, number: str) -> Order:
    """One order as it stands."""
    return _order(checkout.order_of(request.auth, _order_id(number)))


@router.get("/{number}/events", response=Page[HistoryEvent], operation_id="list_order_events")
def list_order_events(request: CustomerRequest, number: str) -> Page[HistoryEvent]:
    """What has happened to an order, oldest first. An order has few events, so they are always one page."""
    history = selectors.history(_order_id(number))
    if not history or not _placed_by(request.auth, history[0]):
        raise OrderNotFound
    return Page[HistoryEvent](items=[_history_event(recorded) for recorded in history], next_cursor=None)


@router.post("/{number}/pay", response={202: Order}, operation_id="pay_order", openapi_extra=LOCATION)
def pay_order(request: CustomerRequest, number: str, body: PayRequest, response: HttpResponse) -> Order:
    """Pay a confirmed order. The payment gateway is asked afterwards: follow the order to see how it went."""
    order_id = _order_id(number)
    checkout.pay(order_id, request.auth, body.payment_token, checkout.metadata_for(request.auth))
    response["Location"] = _address(numbers.to_text(order_id))
    return _order(checkout.order_of(request.auth, order_id))


@router.post("/{number}/cancel", response=Order, operation_id="cancel_order")
def cancel_order(request: CustomerRequest, number: str, body: CancelRequest | None = None) -> Order:
    """Cancel an order that is not paid yet. One that is cancelled already stays so."""
    order_id = _order_id(number)
    checkout.cancel(order_id, request.auth, checkout.metadata_for(request.auth))
    return _order(checkout.order_of(request.auth, order_id))


def _order_id(number: str) -> int:
    try:
        return numbers.parse(number)
    except InvalidOrderNumber:
        raise OrderNotFound from None


def _address(number: str) -> str:
    return _address_of_any().replace(ANY, number)


@functools.cache
def _address_of_any() -> str:
    return reverse("api:get_order", kwargs={"number": ANY})


def _placed_by(customer_id: int, first: Recorded[Any]) -> bool:
    return isinstance(first.event, OrderPlaced) and first.event.customer_id == customer_id


def _order_as_placed(placement: Placement) -> Order:
    """The order at the moment of its placement, whatever became of it since: a replay is the same answer."""
    placed = placement.placed
    subtotal = sum_of(placed.lines)
    return Order(
        number=numbers.to_text(placement.order_id),
        status=Status.PLACED,
        currency=placed.currency,
        subtotal=subtotal,
        discount=placed.discount,
        total=subtotal - placed.discount,
        coupon=placed.coupon_code,
        placed_at=placed.at,
        updated_at=placed.at,
        expires_at=placed.payment_due_at,
        reason="",
        lines=[
            Line(
                sku=line.sku,
                name=line.name,
                quantity=line.quantity,
                unit_price=line.unit_price,
                amount=line.quantity * line.unit_price,
            )
            for line in placed.lines
        ],
        ship_to=_ship_to(placed.ship_to),
        payment=None,
    )


def _order(order: OrderDetail) -> Order:
    state = payments.state(order.id)
    return Order(
        **OrderSummary.model_validate(order).model_dump(),
        lines=[Line.model_validate(line) for line in order.lines],
        ship_to=_ship_to(selectors.ship_to(order.id)),
        payment=None if state.progress is payments.Progress.NONE else Payment.model_validate(state),
    )


def _ship_to(address: Address | None) -> ShipTo | None:
    return None if address is None else ShipTo.model_validate(address)


def _history_event(recorded: Recorded[Any]) -> HistoryEvent:
    return HistoryEvent(
        id=recorded.id,
        version=recorded.version,
        type=recorded.event.TYPE,
        schema_version=recorded.event.SCHEMA_VERSION,
        recorded_at=recorded.recorded_at,
        correlation_id=recorded.metadata.correlation_id,
        causation_id=recorded.metadata.causation_id,
        data=msgspec.to_builtins(recorded.event),
    )
