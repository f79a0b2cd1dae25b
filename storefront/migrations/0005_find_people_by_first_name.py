"""People are found by their first names, too."""

from functools import partial
from importlib import import_module

from django.db import migrations

indexes = import_module("storefront.migrations.0003_find_people")
COLUMNS = ("first_name",)


class Migration(migrations.Migration):
    atomic = False  # the index is built beside the table's use

    dependencies = [("storefront", "0004_customer_cart")]

    operations = [
        migrations.RunPython(partial(indexes.install, columns=COLUMNS), partial(indexes.remove, columns=COLUMNS))
    ]
