"""Calls carillon.v1 as a user of it would: with a client generated from services/ingest/proto alone, and stock grpcio.

    grpc_client.py COMMAND ADDRESS [REQUESTS]

REQUESTS is a JSON array of PublishRequest. What comes of it is printed as JSON. GRPC_KEY is sent as the producer's key,
GRPC_CA is a file with the certificate to trust: with it the channel is secured. GRPC_TRACEPARENT is the caller's span. GRPC_METRICS is where the server shows
its metrics: a flood wants to know.
"""

import json
import os
import pathlib
import queue
import sys
import tempfile
import threading
import urllib.request

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from grpc_tools import protoc

PROTOS = pathlib.Path(__file__).parents[2] / "services/ingest/proto"


def generated():
    """The client, generated as the producer guide says."""
    out = tempfile.mkdtemp(prefix="carillon-grpc-")
    arguments = ["", f"-I{PROTOS}", f"--python_out={out}", f"--grpc_python_out={out}", "carillon/v1/publish.proto"]
    assert protoc.main(arguments) == 0
    sys.path.insert(0, out)
    from carillon.v1 import publish_pb2, publish_pb2_grpc

    return publish_pb2, publish_pb2_grpc


pb, stubs = generated()


def connect(address):
    authority = os.environ.get("GRPC_CA")
    if not authority:
        return grpc.insecure_channel(address)
    credentials = grpc.ssl_channel_credentials(pathlib.Path(authority).read_bytes())
    return grpc.secure_channel(address, credentials)


def metadata():
    key, traceparent = os.environ.get("GRPC_KEY"), os.environ.get("GRPC_TRACEPARENT")
    pairs = [("authorization", key and f"Bearer {key}"), ("traceparent", traceparent)]
    return [(name, value) for name, value in pairs if value]


def requests(text):
    return [json_format.ParseDict(request, pb.PublishRequest()) for request in json.loads(text)]


def plain(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def failure(error):
    """A status with its details, the standard ones and ours."""
    told = {"code": error.code().name, "message": error.details()}
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        for kind in (error_details_pb2.BadRequest, error_details_pb2.RetryInfo, error_details_pb2.ErrorInfo, pb.Problem):
            if detail.Is(kind.DESCRIPTOR):
                message = kind()
                detail.Unpack(message)
                told[kind.DESCRIPTOR.name] = plain(message)
    return told


def say(what):
    print(json.dumps(what), flush=True)


def unary(channel, text):
    publisher = stubs.PublisherStub(channel)
    answers = []
    for request in requests(text):
        try:
            answers.append(plain(publisher.Publish(request, metadata=metadata(), timeout=30)))
        except grpc.RpcError as error:
            answers.append(failure(error))
    say(answers)


def stream(channel, text):
    try:
        say(plain(stubs.PublisherStub(channel).PublishStream(iter(requests(text)), metadata=metadata(), timeout=60)))
    except grpc.RpcError as error:
        say(failure(error))


def each(channel, text):
    """All at once."""
    call = stubs.PublisherStub(channel).PublishEach(iter(requests(text)), metadata=metadata(), timeout=60)
    say(read(call))


def read(call):
    answers = []
    try:
        for answer in call:
            answers.append(plain(answer))
    except grpc.RpcError as error:
        answers.append(failure(error))
    return answers


def lockstep(channel, text):
    """The next message only after the answer to the one before."""
    outgoing = queue.SimpleQueue()
    call = stubs.PublisherStub(channel).PublishEach(iter(outgoing.get, None), metadata=metadata(), timeout=60)
    answers = []
    for request in requests(text):
        outgoing.put(request)
        answers.append(plain(next(call)))
    outgoing.put(None)
    say(answers + read(call))


def until_told(channel, text):
    """One message, and then an open stream until the server ends it; every answer is printed at once."""
    outgoing = queue.SimpleQueue()
    call = stubs.PublisherStub(channel).PublishEach(iter(outgoing.get, None), metadata=metadata())
    for request in requests(text):
        outgoing.put(request)
    try:
        for answer in call:
            say(plain(answer))
    except grpc.RpcError as error:
        say(failure(error))
    outgoing.put(None)


def taken():
    """How many messages the server has taken, by its own metrics."""
    with urllib.request.urlopen(os.environ["GRPC_METRICS"], timeout=30) as metrics:
        lines = metrics.read().decode().splitlines()
    (line,) = [line for line in lines if line.startswith('carillon_ingest_arrivals_total{door="grpc"}')]
    return int(line.split()[-1])


def flood(channel, text):
    """Sends one request again and again and reads nothing until the server takes no more; then reads all answers."""
    (request,) = requests(text)
    total, sent, closing = 60_000, 0, threading.Event()

    def outgoing():
        nonlocal sent
        while sent < total and not closing.is_set():
            sent += 1
            yield request

    before = last = taken()
    call = stubs.PublisherStub(channel).PublishEach(outgoing(), metadata=metadata())
    # The server answers every look, so it has had its turn: what waits for it then, it does not want. So many looks,
    # because this client itself rests for a moment now and then.
    looks = 0
    while looks < 1_000 and sent < total:
        now = taken()
        looks = looks + 1 if before < now == last and now - before < sent else 0
        last = now
    stuck = sent
    closing.set()
    places = [answer.index for answer in call]
    say({"total": total, "stuck": stuck, "sent": sent, "answers": len(places), "in_order": places == list(range(sent))})


def watch(channel, service):
    """Prints every standing of a service until the server ends the watch."""
    for answer in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service)):
        say(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def reflect(channel, text):
    """Knows nothing but the address: asks what there is, and sends a message by it."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(database)
    method = pool.FindServiceByName("carillon.v1.Publisher").FindMethodByName("Publish")
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    publish = channel.unary_unary(
        "/carillon.v1.Publisher/Publish",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    answer = publish(json_format.ParseDict(json.loads(text)[0], request()), metadata=metadata(), timeout=30)
    say({"services": sorted(database.get_services()), "answer": plain(answer)})


COMMANDS = {
    "unary": unary,
    "stream": stream,
    "each": each,
    "lockstep": lockstep,
    "until-told": until_told,
    "flood": flood,
    "watch": watch,
    "reflect": reflect,
}

if __name__ == "__main__":
    command, address, *rest = sys.argv[1:]
    with connect(address) as opened:
        COMMANDS[command](opened, *rest)
