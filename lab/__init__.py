"""The laboratory: measures a shop, loads it and breaks it; `script/lab --help` names the commands."""
