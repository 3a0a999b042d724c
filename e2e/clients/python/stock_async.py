"""A stock `socketio.AsyncClient` that does what its standard input says: `stock_async.py URL OPTIONS`. The lines: lib/stock.js."""

import asyncio
import sys

import socketio
from lines import read, say


async def main(url, options):
    sio = socketio.AsyncClient()

    def hear(event):
        sio.on(event, lambda *args: say(event=event, args=args))

    for name in options["events"]:
        hear(name)
    sio.on("connect", lambda: say(connected=sio.get_sid()))
    sio.on("disconnect", lambda reason: say(disconnected=reason))
    sio.on("connect_error", lambda data: say(refused=data["message"]))
    try:
        await sio.connect(url, auth=options.get("auth"), transports=options.get("transports"), wait_timeout=20)
    except socketio.exceptions.ConnectionError:
        return
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = read(line)
        answered = lambda answer, ask=asked["ask"]: say(ask=ask, answer=answer)
        await sio.emit(asked["event"], asked["data"], callback=answered)
    await sio.disconnect()


asyncio.run(main(sys.argv[1], read(sys.argv[2])))
