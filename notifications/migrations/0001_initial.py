from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Message",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("customer_id", models.BigIntegerField()),
                ("channel", models.CharField(choices=[("email", "Email"), ("inbox", "Inbox")], max_length=10)),
                ("about", models.CharField(max_length=40)),
                ("event_id", models.CharField(max_length=80)),
                ("correlation_id", models.TextField()),
                ("order_id", models.BigIntegerField(blank=True, null=True)),
                ("recipient", models.EmailField(blank=True, max_length=254)),
                ("subject", models.CharField(max_length=200)),
                ("body", models.TextField()),
                ("html", models.TextField(blank=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("sending", "Sending"),
                            ("sent", "Sent"),
                            ("failed", "Failed"),
                        ],
                        default="pending",
                        max_length=10,
                    ),
                ),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("version", models.PositiveIntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField(blank=True, null=True)),
                ("claimed_at", models.DateTimeField(blank=True, null=True)),
                ("last_error", models.CharField(blank=True, max_length=500)),
                ("created_at", models.DateTimeField()),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
                ("read_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("channel", "inbox")),
                        fields=["customer_id", "-created_at", "-id"],
                        name="message_inbox",
                    ),
                    models.Index(
                        condition=models.Q(("channel", "inbox"), ("read_at__isnull", True)),
                        fields=["customer_id"],
                        name="message_unread",
                    ),
                    models.Index(
                        condition=models.Q(("status", "pending")), fields=["next_attempt_at"], name="message_pending"
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("event_id", "channel"), name="one_message_per_event_and_channel"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("channel", "inbox"), models.Q(("recipient", ""), _negated=True), _connector="OR"
                        ),
                        name="an_email_has_a_recipient",
                    ),
                ],
            },
        ),
    ]
