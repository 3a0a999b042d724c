"""Sends events with the stock CloudEvents SDK, and prints each answer as a line of JSON: its status and body.

    events.py URL SUBJECT TEXT BYTES

TEXT is part of what is text, BYTES of what is bytes. CLOUDEVENTS_KEY is sent as the producer's key.
"""

import http.client
import json
import os
import sys
from urllib.parse import urlsplit

from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

url, (subject, text, binary) = urlsplit(sys.argv[1]), sys.argv[2:]
connection = http.client.HTTPConnection(url.netloc)


def event(id, data, **attributes):
    return CloudEvent({"id": id, "source": "/shop/1", "type": "shipped", "subject": subject, **attributes}, data)


def send(message):
    key = {"authorization": f"Bearer {os.environ['CLOUDEVENTS_KEY']}"}
    connection.request("POST", url.path, message.body, {**message.headers, **key})
    answer = connection.getresponse()
    print(json.dumps({"status": answer.status, "body": json.load(answer)}), flush=True)


nested = {"parcels": [{"kg": 1.5}, None], "to": f"Zo\u00eb \U0001f514 {text}"}
send(to_structured_event(event("1", nested)))
send(to_binary_event(event("2", nested)))
send(to_structured_event(event("3", f"\u00fcber <all> {text}", datacontenttype="text/plain")))
send(to_binary_event(event("4", f"\u00fcber <all> {text}", datacontenttype="text/plain")))
send(to_structured_event(event("5", b"\x00\xff" + binary.encode(), datacontenttype="application/octet-stream")))
send(to_binary_event(event("6", b"\x00\xff" + binary.encode(), datacontenttype="application/octet-stream")))
send(to_structured_event(event("7", None)))
send(to_binary_event(event("8", None, partitionkey="a b%", sequence="7")))
# Delivered again, the second time in the other mode.
send(to_structured_event(event("1", nested)))
send(to_binary_event(event("1", nested, datacontenttype="application/json")))
# The same id with other data.
send(to_structured_event(event("1", f"other {text}")))
# The policy needs a subject.
send(to_structured_event(CloudEvent({"id": "9", "source": "/shop/1", "type": "shipped"}, nested)))
