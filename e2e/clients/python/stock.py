"""A stock `socketio.Client` that does what its standard input says: `stock.py URL OPTIONS`. The lines: lib/stock.js."""

import sys

import socketio
from lines import read, say

url, options = sys.argv[1], read(sys.argv[2])
sio = socketio.Client()


def hear(event):
    sio.on(event, lambda *args: say(event=event, args=args))


for name in options["events"]:
    hear(name)
sio.on("connect", lambda: say(connected=sio.get_sid()))
sio.on("disconnect", lambda reason: say(disconnected=reason))
sio.on("connect_error", lambda data: say(refused=data["message"]))
try:
    sio.connect(url, auth=options.get("auth"), transports=options.get("transports"), wait_timeout=20)
except socketio.exceptions.ConnectionError:
    sys.exit(0)
for line in sys.stdin:
    asked = read(line)
    say(ask=asked["ask"], answer=sio.call(asked["event"], asked["data"]))
sio.disconnect()
