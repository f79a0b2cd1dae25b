"""Account names are stored in one form, see accounts.identity.

Where two names become one, the account that was used last keeps it, because that is who will sign in next. Each other
gets its id after a dot, and the migration says so: its owner has to be told, by the address of the account.
"""

from typing import Any

from django.db import migrations
from django.db.models import F

from values.names import account_name

LONGEST = 150


def store_in_one_form(apps: Any, schema_editor: Any) -> None:
    users = apps.get_model("auth", "User").objects.using(schema_editor.connection.alias)
    rows = users.order_by(F("last_login").desc(nulls_last=True), "id").values_list("id", "username")
    other = [(pk, name) for pk, name in rows.iterator() if name != account_name(name)]
    if not other:
        return
    claimed = {account_name(name) for _, name in other}
    order = [(pk, name) for pk, name in rows.iterator() if account_name(name) in claimed]
    taken: set[str] = set()
    renamed: list[tuple[int, str, str]] = []
    for pk, name in order:
        wanted = account_name(name)[:LONGEST]
        if wanted in taken:
            wanted = f"{wanted[: LONGEST - 20]}.{pk}"
            print(f"  The account {pk} was called {name!r}, which is another's name. It is called {wanted!r} now.")  # noqa: T201
        taken.add(wanted)
        if wanted != name:
            renamed.append((pk, name, wanted))
    for pk, _, _ in renamed:  # first out of each other's way, then to the new names
        users.filter(pk=pk).update(username=f"\x01{pk}")
    for pk, _, wanted in renamed:
        users.filter(pk=pk).update(username=wanted)


def guard(apps: Any, schema_editor: Any) -> None:
    """What writes past Django's `save` is refused a name that differs by its capitals, as far as the database knows."""
    concurrently = "CONCURRENTLY" if schema_editor.connection.vendor == "postgresql" else ""
    # One that was cut off is there and of no use.
    schema_editor.execute(f"DROP INDEX {concurrently} IF EXISTS user_has_one_name")
    schema_editor.execute(f"CREATE UNIQUE INDEX {concurrently} user_has_one_name ON auth_user (lower(username))")


def unguard(apps: Any, schema_editor: Any) -> None:
    schema_editor.execute("DROP INDEX IF EXISTS user_has_one_name")


class Migration(migrations.Migration):
    atomic = False  # the index is built beside the table's use

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("storefront", "0005_find_people_by_first_name"),
    ]

    operations = [
        migrations.RunPython(store_in_one_form, migrations.RunPython.noop, atomic=True),
        migrations.RunPython(guard, unguard),
    ]
