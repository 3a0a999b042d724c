"""The client guide's lines, run: `cursors.py URL TOKEN TRANSPORTS ROOMS`. lib/cursors.js puts them where the marker is."""

import asyncio
import json
import sys
import types

import aiohttp
import engineio
import socketio as stock
from lines import say

url, token = sys.argv[1:3]
transports, rooms = map(json.loads, sys.argv[3:5])


class Mended(engineio.AsyncClient):
    """The stock connection, without two faults of its own that would hide what comes after a cut.

    They are in engineio/async_client.py of python-engineio 4.15.1, and no setting avoids both.
    """

    async def _send_request(self, *request, **options):
        # `_connect_polling` and `_read_loop_polling` read an answer's body where nothing catches a lost connection. The
        # error ends the task that reconnects, or the one that reads; the client says nothing and stays away for ever.
        answer = await super()._send_request(*request, **options)
        if isinstance(answer, aiohttp.ClientResponse):
            try:
                await answer.read()  # which keeps it: who reads it again gets the same
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                return str(error)
        return answer

    async def _connect_websocket(self, *where):
        # It waits five minutes for the `101`, and without end for the first packet or the answer to its probe; so it does
        # not leave a black hole that it came into. A poll ends after `request_timeout`.
        upgrade = bool(self.sid)
        try:
            return await asyncio.wait_for(super()._connect_websocket(*where), self.request_timeout)
        except asyncio.TimeoutError as error:
            if upgrade:
                return False
            raise engineio.exceptions.ConnectionError("no WebSocket in time") from error


class Impatient(stock.AsyncClient):
    """The stock client, impatient; and what it is told is told on."""

    def __init__(self):
        super().__init__(reconnection_delay=0.05, reconnection_delay_max=0.2, randomization_factor=0, request_timeout=2)

    def _engineio_client_class(self):
        return Mended

    async def connect(self, url, **options):
        await super().connect(url, **{**options, "transports": transports})
        if self.eio.state != "connected":
            # A third fault, in socketio/async_client.py of python-socketio 5.18.1: `connect` sets `connected` without a
            # look at whether the connection still stands. One lost after the namespace was joined and before that line
            # is told to nobody; then either no task reconnects, or each attempt fails with "Already connected".
            self.connected = False
            say(disconnected=True)
            if self._reconnect_task is asyncio.current_task():
                raise stock.exceptions.ConnectionError("lost while it connected")

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
