"""Receives traces as a collector does, and decodes them by OpenTelemetry's own definitions.

With an argument, it takes what is sent with that `Authorization` alone, and answers 401 to all else.

The first line of standard output is the port; then a line of JSON for each span. Whatever cannot be decoded, or has a
field that the definitions do not know, is answered 400 and told as a line with `error`.
"""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

IDS = ("traceId", "spanId", "parentSpanId")


def say(line):
    print(json.dumps(line), flush=True)


def in_base64(value):
    """OTLP writes ids in hexadecimal, where protobuf's JSON writes bytes in base64."""
    if isinstance(value, list):
        return [in_base64(item) for item in value]
    if isinstance(value, dict):
        return {
            name: base64.b64encode(bytes.fromhex(item)).decode() if name in IDS else in_base64(item)
            for name, item in value.items()
        }
    return value


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if sys.argv[1:] and self.headers["Authorization"] != sys.argv[1]:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        try:
            assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/json"
            request = json_format.ParseDict(in_base64(json.loads(body)), trace_service_pb2.ExportTraceServiceRequest())
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        say({
                            "service": attributes(resource.resource.attributes)["service.name"],
                            "name": span.name,
                            "kind": span.kind,
                            "trace": span.trace_id.hex(),
                            "span": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "began": span.start_time_unix_nano,
                            "ended": span.end_time_unix_nano,
                            "attributes": attributes(span.attributes),
                        })
            status = 200
        except Exception as error:
            say({"error": str(error)})
            status = 400
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Collector)
say(server.server_port)
server.serve_forever()
