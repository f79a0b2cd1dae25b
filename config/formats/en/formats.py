"""How times are shown where a page does not say it: with the year and the zone, which is always UTC."""

DATE_FORMAT = "Y-m-d"
DATETIME_FORMAT = "Y-m-d H:i:s e"
