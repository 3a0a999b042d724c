"""A collector of traces: OTLP over gRPC, as OpenTelemetry's own definitions have it. Prints each span as a line of JSON.

Its argument is where it listens, as in `127.0.0.1:4317`.
"""

import json
import sys
import threading
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

lock = threading.Lock()


def value(any_value):
    kind = any_value.WhichOneof("value")
    if kind == "array_value":
        return [value(one) for one in any_value.array_value.values]
    return getattr(any_value, kind) if kind else None


def attributes(pairs):
    return {pair.key: value(pair.value) for pair in pairs}


def describe(span, resource):
    return {
        "service": resource.get("service.name"),
        "name": span.name,
        "kind": trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "links": [{"trace": link.trace_id.hex(), "id": link.span_id.hex()} for link in span.links],
        "attributes": attributes(span.attributes),
        "start": span.start_time_unix_nano / 1e6,
        "end": span.end_time_unix_nano / 1e6,
        "status": span.status.message,
    }


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def Export(self, request, context):
        for resource_spans in request.resource_spans:
            resource = attributes(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    with lock:
                        print(json.dumps(describe(span, resource)), flush=True)
        return trace_service_pb2.ExportTraceServiceResponse()


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), server)
if server.add_insecure_port(sys.argv[1]) == 0:
    sys.exit(f"{sys.argv[1]} is taken")
server.start()
print("collecting", flush=True)
server.wait_for_termination()
