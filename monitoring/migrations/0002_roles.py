"""The groups that operators are put into. Administrators may change them; nothing here overwrites that.

Django makes permissions only after all migrations have run, so the ones that are needed are made here.
"""

from typing import Any

from django.db import migrations

VIEW = {
    "orders": ["order"],
    "inventory": ["category", "product", "stockmovement", "reservation"],
    "coupons": ["coupon", "redemption"],
    "payments": ["payment"],
    "notifications": ["message"],
    "eventing": ["event", "outboxmessage", "inboxentry", "deadletter"],
    "sharding": ["bucket"],
    "django_celery_beat": ["periodictask", "intervalschedule", "crontabschedule"],
    "auth": ["user"],
}

ROLES: dict[str, dict[str, dict[str, list[str]]]] = {
    # role: verb: app: models
    "viewer": {"view": VIEW},
    "support": {
        "view": {app: VIEW[app] for app in ("orders", "inventory", "coupons", "payments", "notifications", "auth")}
        | {"eventing": ["event", "deadletter"]},
        # A message that failed may be sent again; nothing of it can be edited.
        "change": {"orders": ["order"], "notifications": ["message"]},
    },
    "stock keeper": {
        "view": {"inventory": VIEW["inventory"], "orders": ["order"]},
        "add": {"inventory": ["category", "product"]},
        "change": {"inventory": ["category", "product"]},
    },
    "administrator": {
        "view": VIEW | {"auth": ["user", "group"], "admin": ["logentry"]},
        "add": {
            "inventory": ["category", "product"],
            "coupons": ["coupon"],
            "auth": ["user", "group"],
            "django_celery_beat": VIEW["django_celery_beat"],
        },
        "change": {
            "orders": ["order"],
            "inventory": ["category", "product"],
            "coupons": ["coupon"],
            "notifications": ["message"],
            "eventing": ["deadletter"],
            "auth": ["user", "group"],
            "django_celery_beat": VIEW["django_celery_beat"],
        },
        "delete": {"auth": ["user", "group"], "django_celery_beat": VIEW["django_celery_beat"]},
    },
}


def install(apps: Any, schema_editor: Any) -> None:
    groups = apps.get_model("auth", "Group").objects
    for role, verbs in ROLES.items():
        group, created = groups.get_or_create(name=role)
        if created:
            group.permissions.set(
                _permission(apps, verb, app_label, model)
                for verb, wanted in verbs.items()
                for app_label, models in wanted.items()
                for model in models
            )


def _permission(apps: Any, verb: str, app_label: str, model: str) -> Any:
    content_types = apps.get_model("contenttypes", "ContentType").objects
    content_type, _ = content_types.get_or_create(app_label=app_label, model=model)
    name = f"Can {verb} {apps.get_model(app_label, model)._meta.verbose_name_raw}"
    permissions = apps.get_model("auth", "Permission").objects
    return permissions.get_or_create(content_type=content_type, codename=f"{verb}_{model}", defaults={"name": name})[0]


class Migration(migrations.Migration):
    dependencies = [
        ("monitoring", "0001_default_schedules"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("coupons", "0001_initial"),
        ("eventing", "0001_initial"),
        ("inventory", "0001_initial"),
        ("notifications", "0001_initial"),
        ("orders", "0001_initial"),
        ("payments", "0001_initial"),
        ("sharding", "0001_bucket"),
    ]

    operations = [migrations.RunPython(install, migrations.RunPython.noop)]
