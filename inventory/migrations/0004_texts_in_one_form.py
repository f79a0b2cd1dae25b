"""What is shown is in normal form C, as what is looked for is since texts have a rule (values.text)."""

from typing import Any
from unicodedata import normalize

from django.db import migrations


def normalise(apps: Any, schema_editor: Any) -> None:
    using = schema_editor.connection.alias
    for model, fields in (("Product", ["name", "description"]), ("Category", ["name"])):
        rows = apps.get_model("inventory", model).objects.using(using)
        for row in rows.only(*fields).iterator():
            texts = {field: normalize("NFC", getattr(row, field)) for field in fields}
            if texts != {field: getattr(row, field) for field in fields} and len(texts["name"]) <= 200:
                rows.filter(pk=row.pk).update(**texts)


class Migration(migrations.Migration):
    dependencies = [("inventory", "0003_reservations_newest_first")]

    operations = [migrations.RunPython(normalise, migrations.RunPython.noop, elidable=True)]
