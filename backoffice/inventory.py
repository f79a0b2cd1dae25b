"""Products, stock and reservations for operators. Stock changes only by receiving or adjusting, with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from backoffice.base import CarefulModelAdmin, MinorUnitsField, OfOrders, operator, order_link, render_page, time
from backoffice.step_chart import step_chart
from eventing.recorded import Metadata
from inventory import handlers, selectors
from inventory.domain import (
    CATEGORY_NAME,
    DESCRIPTION,
    MAX_RECEIVED,
    NAME,
    REASON,
    InventoryError,
    Status,
    check_product,
)
from inventory.models import Category, Product, Reservation, Stock, StockMovement
from sharding.router import database_of
from values.fields import TextField
from values.filters import money, stamp

FEW = 5
MOVEMENTS = 10
CHARTED = 100


class StockFilter(admin.SimpleListFilter):
    title = "stock"
    parameter_name = "stock"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("none", "Sold out"), ("few", f"{FEW} or fewer"), ("some", "Available")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Product]) -> QuerySet[Product]:
        match self.value():
            case "none":
                return queryset.filter(stock__available=0)
            case "few":
                return queryset.filter(stock__available__lte=FEW)
            case "some":
                return queryset.filter(stock__available__gt=0)
            case _:
                return queryset


class ProductForm(forms.ModelForm):
    name = TextField(NAME, widget=UnfoldAdminTextInputWidget)
    description = TextField(DESCRIPTION, required=False, widget=UnfoldAdminTextareaWidget)
    price = MinorUnitsField(lowest=1, help_text=f"In {settings.SHOP_CURRENCY}, as customers see it.")

    class Meta:
        model = Product
        fields = ("sku", "name", "category", "description", "price", "picture", "active")
        help_texts = {
            "picture": "Words for what the picture shows and its colour, such as “blue mug” or “oak stool”."
            " Empty: the words of the name."
        }

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if not self.errors:
            try:
                check_product(
                    sku=values.get("sku", self.instance.sku),
                    name=values["name"],
                    price=values["price"],
                    currency=self.instance.currency or settings.SHOP_CURRENCY,
                )
            except InventoryError as error:
                raise ValidationError(str(error), code=error.code) from error
        return values


class StockForm(forms.Form):
    """A change of a product's stock: by `quantity` pieces, for a reason."""

    reason = TextField(
        REASON,
        widget=UnfoldAdminTextInputWidget,
        help_text="For the ledger, for instance the number of the delivery.",
    )
    # A form that is sent twice, by a double click or with "back", must not change the stock twice.
    seen = forms.IntegerField(widget=forms.HiddenInput)
    field_order = ("quantity", "reason")
    verb = ""

    def __init__(self, stock: Stock, data: QueryDict | None = None) -> None:
        super().__init__(data)
        self.stock = stock

    def clean_seen(self) -> int:
        seen: int = self.cleaned_data["seen"]
        if seen != self.stock.version:
            raise ValidationError(
                "The stock of this product was changed since this form was opened. If that was not you, send it again."
            )
        return seen

    def carry_out(self, metadata: Metadata) -> str:
        """Change the stock and say what was done; raises InventoryError."""
        raise NotImplementedError


class ReceiveStockForm(StockForm):
    verb = "Receive"
    quantity = forms.IntegerField(
        min_value=1, max_value=MAX_RECEIVED, widget=UnfoldAdminIntegerFieldWidget, help_text="Pieces that have come in."
    )

    def carry_out(self, metadata: Metadata) -> str:
        quantity, reason = self.cleaned_data["quantity"], self.cleaned_data["reason"]
        handlers.receive_stock(self.stock.sku, quantity, reason, timezone.now(), metadata)
        return f"Received {quantity}: {reason}."


class AdjustStockForm(StockForm):
    verb = "Adjust"
    quantity = forms.IntegerField(
        label="Change",
        min_value=-MAX_RECEIVED,
        max_value=MAX_RECEIVED,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Pieces more or, with a minus, less than the books say. Never below what is reserved for orders.",
    )

    def __init__(self, stock: Stock, data: QueryDict | None = None) -> None:
        super().__init__(stock, data)
        self.fields["reason"].help_text = "For the ledger, for instance who has counted, or what was broken."

    def carry_out(self, metadata: Metadata) -> str:
        change, reason = self.cleaned_data["quantity"], self.cleaned_data["reason"]
        handlers.adjust_stock(self.stock.sku, change, reason, timezone.now(), metadata)
        return f"Adjusted by {change:+}: {reason}."


@admin.register(Product)
class ProductAdmin(CarefulModelAdmin):
    form = ProductForm
    list_display = ("sku", "name", "category", "list_price", "on_hand", "reserved", "available", "active")
    list_display_links = ("sku", "name")
    list_filter = ("category", StockFilter, "active")
    list_filter_sheet = False
    list_per_page = 50
    search_fields = ("sku", "name")
    search_help_text = "Name or SKU"
    actions_detail = ("receive_stock", "adjust_stock")
    actions_row = ("receive_stock", "adjust_stock")
    save_always = ("updated_at",)
    change_form_outer_before_template = "admin/backoffice/product_orders.html"
    fieldsets = (
        (None, {"fields": (("sku", "category"), "name", "description", ("price", "picture"), "active")}),
        ("Stock", {"fields": (("on_hand", "reserved", "available"), "movements")}),
    )
    readonly_fields = ("on_hand", "reserved", "available", "movements")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        return super().get_queryset(request).select_related("category", "stock")

    def get_readonly_fields(self, request: HttpRequest, obj: Product | None = None) -> tuple[str, ...]:
        # Orders and stock know a product by its number.
        return ("sku", *self.readonly_fields) if obj else self.readonly_fields

    def get_fieldsets(self, request: HttpRequest, obj: Product | None = None) -> Any:
        return self.fieldsets if obj else self.fieldsets[:1]

    def save_model(self, request: HttpRequest, obj: Product, form: forms.ModelForm, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            handlers.evict_offers_on_commit([obj.sku], database_of("inventory"))
            return
        handlers.add_product(
            sku=obj.sku,
            name=obj.name,
            category=obj.category.slug,
            price=obj.price,
            currency=settings.SHOP_CURRENCY,
            description=obj.description,
            picture=obj.picture,
            active=obj.active,
        )
        obj.pk = Product.objects.values_list("pk", flat=True).get(sku=obj.sku)

    @display(description="price", ordering="price")
    def list_price(self, product: Product) -> str:
        return money(product.price, product.currency)

    @display(description="on hand", ordering="stock__on_hand")
    def on_hand(self, product: Product) -> int:
        return product.stock.on_hand

    @display(description="reserved", ordering="stock__reserved")
    def reserved(self, product: Product) -> int:
        return product.stock.reserved

    @display(description="available", ordering="stock__available")
    def available(self, product: Product) -> str:
        available = product.stock.available
        state = "none" if not available else "few" if available <= FEW else "some"
        return format_html('<span class="bo-stock-{}">{}</span>', state, available)

    @display(description="movements")
    def movements(self, product: Product) -> str:
        rows = product.__dict__.get("newest_movements")  # the page shows a field by asking for it several times
        if rows is None:
            rows = list(StockMovement.objects.filter(sku=product.sku)[:CHARTED])
            product.__dict__["newest_movements"] = rows
        if not rows:
            return "None yet."
        return format_html(
            '{}<p class="bo-note">The last {}; <a href="{}?q={}">all movements</a>.</p>{}',
            step_chart(
                _levels(product.stock.on_hand, rows),
                title=f"Pieces of {product.name} on hand, a step for each of the last {len(rows)} movements",
                begin=f"{len(rows)} movement{'' if len(rows) == 1 else 's'} ago",
                end="now",
            ),
            min(len(rows), MOVEMENTS),
            reverse("admin:inventory_stockmovement_changelist"),
            product.sku,
            _movements([_movement(row) for row in rows[:MOVEMENTS]]),
        )

    @action(description="Receive stock", url_path="receive-stock", permissions=["change"], icon="add_box")
    def receive_stock(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._change_stock(request, object_id, ReceiveStockForm)

    @action(description="Adjust stock", url_path="adjust-stock", permissions=["change"], icon="exposure")
    def adjust_stock(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._change_stock(request, object_id, AdjustStockForm)

    def _change_stock(self, request: HttpRequest, object_id: str, form_class: type[StockForm]) -> HttpResponse:
        if not self.has_change_permission(request):
            raise PermissionDenied
        product = self.get_object(request, object_id)
        if product is None:
            raise Http404
        form = form_class(product.stock, request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                done = form.carry_out(operator(request))
            except InventoryError as error:
                form.add_error(None, str(error))
            else:
                self.log_change(request, product, done)
                messages.success(request, f"{product.name}: {done}")
                return HttpResponseRedirect(reverse("admin:inventory_product_change", args=[product.pk]))
        context = {"original": product, "form": form}
        return render_page(request, "inventory/product/change_stock", f"{form.verb} {product.name}", context, of=self)


class CategoryForm(forms.ModelForm):
    name = TextField(CATEGORY_NAME, widget=UnfoldAdminTextInputWidget)

    class Meta:
        model = Category
        fields = ("name", "slug", "position")


@admin.register(Category)
class CategoryAdmin(CarefulModelAdmin):
    form = CategoryForm
    list_display = ("name", "slug", "position")
    list_editable = ("position",)
    prepopulated_fields = {"slug": ("name",)}
    search_fields = ("name",)

    def save_model(self, request: HttpRequest, obj: Category, form: forms.ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        transaction.on_commit(selectors.evict_categories, using=database_of("inventory"), robust=True)


@admin.register(Reservation)
class ReservationAdmin(OfOrders):
    list_display = ("order", "state", "items", "created", "updated")
    list_display_links = ("state",)
    list_filter = ("status",)
    ordering = ("-created_at", "-order_id")
    fields = ("order", "state", "items", "created_at", "updated_at", "version")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reservation]:
        return super().get_queryset(request).prefetch_related("lines")

    created = time("created_at", "created")
    updated = time("updated_at", "updated")

    @display(
        description="status",
        label={
            Status.RESERVED: "info",
            Status.SHIPPED: "success",
            Status.REFUSED: "danger",
            Status.RELEASED: "default",
            Status.VOID: "default",
        },
    )
    def state(self, reservation: Reservation) -> str:
        return reservation.status

    @display(description="pieces")
    def items(self, reservation: Reservation) -> str:
        return ", ".join(f"{line.quantity} of {line.sku}" for line in reservation.lines.all())


@admin.register(StockMovement)
class StockMovementAdmin(OfOrders):
    list_display = ("moved", "kind_label", "pieces", "sku", "reason", "order")
    list_filter = ("kind",)
    ordering = ("-id",)
    search_fields = ("sku", "order_id")
    search_help_text = "SKU or order number"
    fields = ("at", "kind_label", "quantity", "sku", "reason", "order")

    def otherwise(self, queryset: QuerySet[Any], text: str) -> QuerySet[Any]:
        return queryset.filter(sku__in={text, text.upper()})

    moved = time("at", "time")

    @display(description="kind", label={"received": "success", "shipped": "info", "adjusted": "warning"})
    def kind_label(self, movement: StockMovement) -> str:
        return movement.kind

    @display(description="pieces")
    def pieces(self, movement: StockMovement) -> str:
        return _signed(movement)


def _signed(movement: StockMovement) -> str:
    return f"{_change(movement):+}"


def _change(movement: StockMovement) -> int:
    return -movement.quantity if movement.kind == StockMovement.Kind.SHIPPED else movement.quantity


def _levels(on_hand: int, newest_first: Sequence[StockMovement]) -> list[int]:
    """What was on hand before the first and after each movement, oldest first, counted back from what there is now."""
    levels = [on_hand]
    for movement in newest_first:
        levels.append(levels[-1] - _change(movement))
    return levels[::-1]


def _movement(movement: StockMovement) -> tuple[str, str, str]:
    why = order_link(movement.order_id) or movement.reason
    return stamp(movement.at) or "", _signed(movement), why


def _movements(rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return "None yet."
    body = format_html_join("", '<tr><td>{}</td><td class="bo-right">{}</td><td>{}</td></tr>', rows)
    return format_html('<table class="bo-table bo-compact">{}</table>', body)
