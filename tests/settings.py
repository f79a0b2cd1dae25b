"""The settings of the tests, and of the shops that they start: what must be slow for people is fast here."""

from config.settings import *  # noqa: F403

# A good password hash takes half a second on purpose, and tests make many users and sign in all the time.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
