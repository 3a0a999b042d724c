"""The client guide's lines, run: `cursors.py URL TOKEN TRANSPORTS ROOMS`. lib/cursors.js puts them where the marker is."""

import asyncio
import json
import sys
import types

import socketio as stock
from lines import say

url, token = sys.argv[1:3]
transports, rooms = map(json.loads, sys.argv[3:5])


class Impatient(stock.AsyncClient):
    """The stock client, impatient; and what it is told is told on."""

    def __init__(self):
        super().__init__(reconnection_delay=0.05, reconnection_delay_max=0.2, randomization_factor=0, request_timeout=2)

    async def connect(self, url, **options):
        return await super().connect(url, **{**options, "transports": transports})

    def on(self, event, handler=None, namespace=None):
        if event != "cursors":
            return super().on(event, handler, namespace)

        def telling(handler):
            def both(rooms):
                say(cursors=rooms)
                handler(rooms)

            return super(Impatient, self).on(event, both)

        return telling


async def main():
    socketio = types.SimpleNamespace(AsyncClient=lambda: watched(Impatient()))

    def watched(sio):
        @sio.on("connect")
        async def connected():
            say(connected=True)
            for room in rooms:
                if room not in since:
                    await sio.emit("join", {"room": room})

        sio.on("disconnect", lambda reason: say(disconnected=True))
        return sio

    def hear(event, data, meta):
        if meta:
            say(heard=meta)

    # THE LINES

    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        if "leave" in asked:
            await sio.emit("leave", {"room": asked["leave"]})
        else:
            say(since=since)
    await sio.shutdown()


asyncio.run(main())
