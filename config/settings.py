"""All settings. They come from the command line, then the environment, then `.env`, then the defaults.

Without any of them the *embedded* profile runs: SQLite files, an in-memory broker, one process. With `DATABASE_URL`
set the *services* profile runs: PostgreSQL, RabbitMQ, Redis, a process for each role. What comes from the environment
is declared in config/environment.py.
"""

import os
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import environ
from django.urls import reverse_lazy

from config import logs, roles, secret_key
from config.environment import Environment, refuse
from config.forms import NAME_BYTES

BASE_DIR = Path(__file__).resolve().parent.parent

environ.Env.read_env(BASE_DIR / ".env")
env = Environment(os.environ)

PROFILE = env.profile
EMBEDDED = PROFILE == "embedded"
DATA_DIR = Path(env.text("DEMO_DIR", otherwise=str(BASE_DIR / "var" / "demo"))).resolve()
PORT = env.integer("PORT")
DEBUG = env.boolean("DEBUG")


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        refuse(f"The folder {path} cannot be made: {error.strerror}. DEMO_DIR names another for the data.")
    return path


def _refuse_weak(name: str, *keys: str) -> None:
    for key in keys if not DEBUG else ():
        secret_key.refuse_weak(name, key)


def _secret_key() -> str:
    """The key of the environment; the embedded profile makes one of its own and keeps it with its data."""
    if key := env.text("SECRET_KEY", otherwise=""):
        _refuse_weak("SECRET_KEY", key)
        return key
    if not EMBEDDED and not DEBUG:
        refuse("SECRET_KEY is not set; it can be a long random text: the services profile needs its own.")
    return secret_key.kept_in(_folder(DATA_DIR) / "secret_key")


SECRET_KEY = _secret_key()
# Keys that have signed until now are good for reading what they signed.
SECRET_KEY_FALLBACKS = env.texts("SECRET_KEY_FALLBACKS")
API_TOKEN_KEYS = env.texts("API_TOKEN_KEYS")  # the first signs; none: derived from the secret key, see api.tokens
_refuse_weak("SECRET_KEY_FALLBACKS", *SECRET_KEY_FALLBACKS)
_refuse_weak("API_TOKEN_KEYS", *API_TOKEN_KEYS)
if SECRET_KEY in API_TOKEN_KEYS:
    refuse("API_TOKEN_KEYS has SECRET_KEY among its keys; it can be other keys, or none.")
ALLOWED_HOSTS = env.texts("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = env.texts("CSRF_TRUSTED_ORIGINS")

# --- Applications -----------------------------------------------------------------------------------------------

# Each may have a database of its own, see DATABASES.
CONTEXTS = ("inventory", "coupons", "payments", "notifications")

# django-ninja is not one of them: every process would load it, and only the web server has a use for it.
NINJA = Path(str(find_spec("ninja").origin)).parent  # type: ignore[union-attr]

INSTALLED_APPS = [
    "backoffice",  # its templates come before those of the same name of the theme
    "unfold",
    "backoffice.apps.AdminConfig",  # instead of "django.contrib.admin"
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_celery_beat",
    "django_htmx",
    "config",
    "eventing",
    "sharding",
    "resharding",
    "orders",
    *CONTEXTS,
    "accounts",
    "monitoring",
    "timeline",
    "seed",
    "storefront",
]

MIDDLEWARE = [
    "config.middleware.Answers",  # outermost: what the others answer is completed, too
    "config.middleware.BodyLimit",
    "config.middleware.ApiProblems",  # before all others whose errors are answered in the API's form
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.middleware.Sessions",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "config.middleware.DatabaseUnavailable",  # innermost: sees what the view raises before it is logged as a failure
]
# Asking who is signed in, only to log it, would cost every request two queries, and break those that need none.
DJANGO_STRUCTLOG_USER_ID_FIELD = None
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False  # an address is personal

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "DIRS": [NINJA / "templates"],
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": ["values.filters"],
        },
    },
]

# --- Databases: `default`, the order shards, and a database for each context that is given one -------------------

# What one process may hold per database. The sum over processes must fit the servers' max_connections
# (see `sharding.checks`), so connections are pooled, opened when needed and given back after use.
DATABASE_POOL_SIZE = env.integer("DATABASE_POOL_SIZE")
# How long a page waits for one of several databases; without those that are late it comes, and says so.
DATABASE_READ_SECONDS = env.number("DATABASE_READ_SECONDS")
TEST_RUN = env.text("TEST_RUN")  # tells apart the databases of tests that run side by side


def _postgresql(url: str) -> dict[str, Any]:
    config: dict[str, Any] = environ.Env.db_url_config(url)
    if len(config["NAME"]) > NAME_BYTES:
        refuse(f"The database's name {config['NAME']!r} is too long; it can have {NAME_BYTES} characters.")
    config["ENGINE"] = "config.postgresql"
    config["CONN_MAX_AGE"] = 0  # the pool keeps connections, not the thread
    config["OPTIONS"] = {
        **config.get("OPTIONS", {}),
        "connect_timeout": 3,
        "prepare_threshold": 5,  # None, Django's choice, would forbid what eventing.databases.prepared does
        "pool": {"min_size": 0, "max_size": DATABASE_POOL_SIZE, "timeout": 3, "max_idle": 10},
    }
    config["TEST"] = {"NAME": f"test_{TEST_RUN}_{config['NAME']}"}
    return config


def _sqlite(alias: str) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / f"{alias}.sqlite3",
        "OPTIONS": {
            # Writers queue up at BEGIN instead of failing in the middle with "database is locked".
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
        },
        "TEST": {"NAME": DATA_DIR / f"test_{TEST_RUN}_{alias}.sqlite3"},
    }


def _shard_urls(url: str) -> list[str]:
    """The shards' URLs; without them, databases beside the default one, named after it."""
    if urls := env.texts("ORDER_SHARD_URLS"):
        return urls
    head, _, query = url.partition("?")
    return [f"{head}_orders_{number}" + (f"?{query}" if query else "") for number in range(env.integer("ORDER_SHARDS"))]


DATABASES: dict[str, dict[str, Any]]
if EMBEDDED:
    _folder(DATA_DIR)
    DATABASES = {alias: _sqlite(alias) for alias in ("default", "orders_0", "orders_1")}
else:
    _url = env.text("DATABASE_URL")
    DATABASES = {"default": _postgresql(_url)}
    DATABASES |= {f"orders_{number}": _postgresql(shard) for number, shard in enumerate(_shard_urls(_url))}
    for _context in CONTEXTS:
        if _context_url := env.own_database(_context):
            DATABASES[_context] = _postgresql(_context_url)
    _known: dict[tuple[str, str, str], str] = {}
    for _alias, _config in DATABASES.items():
        _other = _known.setdefault((_config["HOST"], str(_config["PORT"] or 5432), _config["NAME"]), _alias)
        if _other != _alias:
            refuse(f"{_other} and {_alias} are one database, {_config['NAME']!r}; their URLs can only name two.")

WEB_WORKERS = env.integer("WEB_WORKERS")  # processes of the web server
WEB_THREADS = env.integer("WEB_THREADS")  # of each
WORKER_CONCURRENCY = env.integer("WORKER_CONCURRENCY")  # processes of each worker
CONNECTION_BUDGET = roles.connection_budget(
    web_workers=WEB_WORKERS, web_connections=DATABASE_POOL_SIZE, concurrency=WORKER_CONCURRENCY
)

DATABASE_ROUTERS = ["sharding.router.ShardRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Cache: never the only copy of anything, so its loss costs time and nothing else ------------------------------

EVENTING_NAMESPACE = env.text("EVENTING_NAMESPACE")  # a prefix for names on the broker and in the cache
REDIS_URL = "" if EMBEDDED else env.text("REDIS_URL")
if REDIS_URL:
    CACHES: dict[str, dict[str, Any]] = {
        "default": {
            "BACKEND": "caching.backend.FailOpenRedisCache",
            "LOCATION": REDIS_URL,
            "KEY_PREFIX": EVENTING_NAMESPACE,
            "OPTIONS": {"socket_connect_timeout": 0.25, "socket_timeout": 0.25},
        }
    }
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
SESSION_ENGINE = "caching.sessions"

# --- Celery and the backbone, whose other settings have their defaults in eventing/conf.py --------------------------

CELERY_BROKER_URL = "memory://localhost/" if EMBEDDED else env.text("CELERY_BROKER_URL")
# Celery prefers a CELERY_BROKER_URL of the environment to the setting above, but not to these.
CELERY_BROKER_READ_URL = CELERY_BROKER_WRITE_URL = CELERY_BROKER_URL
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = (
    {"polling_interval": 0.01}
    if EMBEDDED
    else {
        # A publish returns when the broker has the message, and never hangs on a frozen broker.
        "confirm_publish": True,
        "read_timeout": 15,
        "write_timeout": 15,
    }
)
# Seconds; after two without a word a connection is dead, for worker and publisher as well as for the broker. RabbitMQ's
# manual advises 5 to 20.
CELERY_BROKER_HEARTBEAT = 20
CELERY_BROKER_CONNECTION_TIMEOUT = 3
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_POOL_LIMIT = 4
CELERY_TASK_SERIALIZER = "msgspec"
CELERY_ACCEPT_CONTENT = ["msgspec", "json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
# A task that fails is rejected, so the broker keeps its message in the dead-letter queue instead of forgetting it.
CELERY_TASK_ACKS_ON_FAILURE_OR_TIMEOUT = False
CELERY_TASK_DEFAULT_QUEUE = "tasks"
CELERY_WORKER_PREFETCH_MULTIPLIER = 16 if EMBEDDED else 1
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
# SIGTERM lets a task end, which is sure within the time limits: at the soft one its events are handed back to be tried
# again one by one, at the hard one the process is killed and the broker hands the message to another. They are below
# the workers' stop_grace_period and far below the 30 minutes after which RabbitMQ takes a message back. SIGQUIT waits
# for this long, then hands everything back.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 10
_seconds = env.integer("TASK_SOFT_TIME_LIMIT")
CELERY_TASK_SOFT_TIME_LIMIT = None if EMBEDDED else _seconds  # threads cannot be interrupted
CELERY_TASK_TIME_LIMIT = None if EMBEDDED else _seconds + 10
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "eventing.beat:LeaderScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 1
CELERY_BEAT_SYNC_EVERY = 1  # a successor must know what has run already

EVENTING_READ_SECONDS = DATABASE_READ_SECONDS
EVENTING_WRITERS = DATABASE_POOL_SIZE
EVENTING_PARTITIONS = "sharding.partitions.of_new_table"
EVENTING_SOURCE = env.text("EVENTING_SOURCE")  # who speaks in the CloudEvents for other programs
EVENTING_DURABLE_BROKER = not EMBEDDED
EVENTING_POLL_SECONDS = env.number("EVENTING_POLL_SECONDS")
EVENTING_MAX_ATTEMPTS = env.integer("EVENTING_MAX_ATTEMPTS")
# How long it is known which events were handled; audits look back no further.
EVENTING_INBOX_RETENTION_DAYS = env.integer("EVENTING_INBOX_RETENTION_DAYS")
# Back-pressure, see eventing.pressure; 0 turns each off. In the embedded profile events stay in the outbox until they
# are handled, so their age does not show a lag of the relay.
EVENTING_QUEUE_HIGH_WATER = env.integer("EVENTING_QUEUE_HIGH_WATER")  # messages (batches of events)
EVENTING_MAX_LAG_SECONDS = 0.0 if EMBEDDED else env.number("EVENTING_MAX_LAG_SECONDS")

# --- Domain -------------------------------------------------------------------------------------------------------

SHOP_CURRENCY = "EUR"
ORDER_PAYMENT_TIMEOUT = timedelta(seconds=env.integer("ORDER_PAYMENT_TIMEOUT"))
PAYMENT_GATEWAY = "payments.gateway.SandboxGateway"
SANDBOX_SLOW_SECONDS = env.number("SANDBOX_SLOW_SECONDS")
CATALOGUE_CACHE_SECONDS = 5
SHARD_MAP_SECONDS = 5
SHARD_MOVE_WAIT_SECONDS = 2

# --- People, mail, pages -------------------------------------------------------------------------------------------

LOGIN_URL = reverse_lazy("storefront:login")
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
AUTHENTICATION_BACKENDS = ["accounts.identity.AccountBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
API_TOKEN_SECONDS = 3600

EMAIL_TIMEOUT = 10  # seconds that a mail server may take before the message is tried again later
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL")
PUBLIC_URL = env.text("PUBLIC_URL") or f"http://localhost:{PORT}"
if _mail_url := env.text("EMAIL_URL"):
    vars().update(environ.Env.email_url_config(_mail_url))
else:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = DATA_DIR / "mail"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True
FORMAT_MODULE_PATH = "config.formats"

STATIC_URL = "/static/"
STATICFILES_DIRS = [NINJA / "static"]
STATIC_ROOT = BASE_DIR / "var" / "static"
WHITENOISE_USE_FINDERS = EMBEDDED or DEBUG
if WHITENOISE_USE_FINDERS:
    _folder(STATIC_ROOT)  # empty, but WhiteNoise wants to look into it
UNFOLD = {
    "SITE_TITLE": "Wharf back office",
    "SITE_HEADER": "Wharf",
    "SITE_SUBHEADER": "Back office",
    "SITE_URL": "/",
    "SITE_ICON": "backoffice.base.mark",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "backoffice.base.mark"}],
    "STYLES": ["backoffice.base.stylesheet"],
    "ENVIRONMENT": "backoffice.base.environment",
    "DASHBOARD_CALLBACK": "backoffice.base.first_page",
    "SIDEBAR": {"navigation": "backoffice.base.navigation"},
    "COLORS": {
        "primary": {
            "50": "oklch(97.5% .014 205)",
            "100": "oklch(94.5% .03 205)",
            "200": "oklch(89% .055 205)",
            "300": "oklch(81% .08 205)",
            "400": "oklch(72% .095 206)",
            "500": "oklch(60% .095 207)",
            "600": "oklch(49% .082 208)",
            "700": "oklch(43.5% .073 208)",
            "800": "oklch(38% .062 209)",
            "900": "oklch(33% .05 210)",
            "950": "oklch(24% .038 210)",
        },
    },
}

# --- Security: HTTPS is taken for granted where the shop is not run for trying it out ------------------------------

HTTPS = env.boolean("HTTPS", otherwise=not EMBEDDED and not DEBUG)
SECURE_SSL_REDIRECT = HTTPS
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES")  # see config.edge
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024

# --- Probes: /healthz, /readyz and /metrics ------------------------------------------------------------------------

# Who gets the names of the parts that do not work, and the numbers. Everybody else gets the bare status.
PROBE_NETWORKS = env.networks("PROBE_NETWORKS")
HEALTH_PORT = 0 if EMBEDDED else env.integer("HEALTH_PORT")
PROBE_CACHE_SECONDS = 1.0  # how old an answer may be: many who ask cost no more than one

# --- Logging: one line an event; JSON where programs read it -------------------------------------------------------

LOG_LEVEL = env.text("LOG_LEVEL")
LOGGING = logs.configure(LOG_LEVEL, for_people=EMBEDDED or sys.stderr.isatty())
