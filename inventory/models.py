"""Products, their stock, what is set aside for orders, and the ledger of what came and went.

Stock is state, not a stream: contention is the point of it. Whatever the database can refuse, it refuses.
"""

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q

from inventory.domain import CURRENCY, SKU, Status

SKU_FORMAT = RegexValidator(rf"\A{SKU.pattern}\Z", "A sku has up to 40 letters, digits, dots, dashes and underscores.")
CURRENCY_FORMAT = RegexValidator(rf"\A{CURRENCY.pattern}\Z", "A currency is a code of three capital letters.")


class Category(models.Model):
    """A shelf of the shop; shelves are shown by position."""

    slug = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position", "name"]
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    """What can be bought; `price` in minor units of `currency`. One that is not active is out of the shop.

    `picture` has words for what its picture shows. A product is added with its stock row: `handlers.add_product`.
    """

    sku = models.CharField(max_length=40, unique=True, validators=[SKU_FORMAT])
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    category = models.ForeignKey(Category, on_delete=models.PROTECT, related_name="products")
    price = models.BigIntegerField()
    currency = models.CharField(max_length=3, validators=[CURRENCY_FORMAT])
    picture = models.CharField(max_length=200, blank=True)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name", "sku"]
        constraints = [
            models.CheckConstraint(
                condition=Q(price__gte=1), name="product_price_positive", violation_error_message="A price is positive."
            ),
            models.CheckConstraint(condition=~Q(sku="") & ~Q(name=""), name="product_has_sku_and_name"),
        ]
        indexes = [
            models.Index(fields=["name", "sku"], condition=Q(active=True), name="product_by_name"),
            models.Index(fields=["price", "sku"], condition=Q(active=True), name="product_by_price"),
            models.Index(fields=["category", "name", "sku"], condition=Q(active=True), name="product_by_category"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} {self.name}"


class Stock(models.Model):
    """The pieces of a product: in the building, set aside for orders, and still to be had.

    The row is the lock of its product; whoever needs several takes them in the order of their sku. `version` is that
    of the product's stream.
    """

    product = models.OneToOneField(
        Product, to_field="sku", db_column="sku", primary_key=True, on_delete=models.PROTECT, related_name="stock"
    )
    on_hand = models.IntegerField(default=0)
    reserved = models.IntegerField(default=0)
    available = models.IntegerField(default=0)
    version = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["product"]
        verbose_name_plural = "stock"
        constraints = [
            models.CheckConstraint(
                condition=Q(on_hand__gte=0, reserved__gte=0, available__gte=0), name="stock_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(on_hand=F("reserved") + F("available")), name="stock_on_hand_is_reserved_plus_available"
            ),
        ]

    def __str__(self) -> str:
        return self.sku

    @property
    def sku(self) -> str:
        return str(self.product_id)


class Reservation(models.Model):
    """What became of one order here; its stream has the order's id and is at `version`."""

    order_id = models.BigIntegerField(primary_key=True)
    status = models.CharField(max_length=8, choices=[(status.value, status.value) for status in Status])
    version = models.PositiveIntegerField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(order_id__gte=0), name="reservation_order_id_positive"),
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in Status]), name="reservation_status"
            ),
            models.CheckConstraint(
                condition=Q(status=Status.VOID.value, version=0) | (~Q(status=Status.VOID.value) & Q(version__gte=1)),
                name="reservation_is_void_until_its_first_event",
            ),
        ]
        indexes = [models.Index(fields=["-created_at", "-order_id"], name="reservation_newest_first")]

    def __str__(self) -> str:
        return f"{self.order_id} {self.status}"


class ReservationLine(models.Model):
    """How much of a product is, or was, set aside for an order."""

    pk = models.CompositePrimaryKey("reservation_id", "sku")
    reservation = models.ForeignKey(
        Reservation, db_column="order_id", on_delete=models.CASCADE, related_name="lines", db_index=False
    )
    sku = models.CharField(max_length=40)
    quantity = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(quantity__gte=1), name="reservation_line_quantity_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} of {self.sku}"


class StockMovement(models.Model):
    """The ledger: for every product, what was received minus what was shipped, plus adjustments, is what is on hand.

    An adjustment has a sign; the other quantities are positive.
    """

    class Kind(models.TextChoices):
        RECEIVED = "received"
        SHIPPED = "shipped"
        ADJUSTED = "adjusted"

    sku = models.CharField(max_length=40)
    kind = models.CharField(max_length=8, choices=Kind)
    quantity = models.IntegerField()
    reason = models.CharField(max_length=200)
    order_id = models.BigIntegerField(null=True, blank=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(quantity__gte=1) | (Q(kind="adjusted") & ~Q(quantity=0)),
                name="stock_movement_quantity_positive",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["received", "adjusted"], order_id__isnull=True)
                | Q(kind="shipped", order_id__isnull=False),
                name="stock_movement_ships_for_an_order",
            ),
            models.UniqueConstraint(fields=["order_id", "sku"], name="stock_movement_ships_once"),
        ]
        indexes = [models.Index(fields=["sku", "-id"], name="stock_movement_by_sku")]

    def __str__(self) -> str:
        return f"{self.kind} {self.quantity} of {self.sku}"
