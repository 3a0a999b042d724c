"""The lines of lib/stock.js, for the programs beside this file: JSON, with bytes as `{"$bytes": base64}`."""

import base64
import json
import sys
import threading

sys.stdin.reconfigure(encoding="utf-8")
_one_at_a_time = threading.Lock()


def _plain(value):
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return value


def _real(value):
    return base64.b64decode(value["$bytes"]) if "$bytes" in value else value


def read(text):
    return json.loads(text, object_hook=_real)


def say(**line):
    text = json.dumps(_plain(line)) + "\n"
    with _one_at_a_time:
        sys.stdout.write(text)
        sys.stdout.flush()
