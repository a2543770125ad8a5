# A gRPC server for the tests: bytes in, bytes out. Arguments: certificate, its key, the value it demands in
# `authorization`. It prints `port N`, then one JSON object for each call and each cancellation that it sees.
import concurrent.futures, json, sys, threading
import grpc

certificate, key, wanted = sys.argv[1:4]
lock = threading.Lock()

def tell(**what):
    with lock:
        print(json.dumps(what), flush=True)

def admit(context, method):
    fields = {}
    for name, value in context.invocation_metadata():
        fields.setdefault(name, []).append(value if isinstance(value, str) else value.hex())
    tell(method=method, fields=fields, remaining=context.time_remaining())
    if fields.get('authorization') != [wanted]:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, 'no key')

def unary(request, context):
    admit(context, 'unary')
    context.send_initial_metadata((('x-initial', 'one'), ('x-initial', 'two')))
    context.set_trailing_metadata((('x-trailing', 'three'), ('x-trailing-bin', b'\x00\xff\x10')))
    return request

def fail(request, context):
    admit(context, 'fail')
    context.set_trailing_metadata((('x-trailing', 'why'),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, 'not so: Grüße ☃ 100%')

def down(request, context):
    admit(context, 'down')
    for number in range(int(request)):
        yield b'%d' % number

def flood(request, context):
    admit(context, 'flood')
    for number in range(4096):
        yield bytes(65536)

def late_failure(request, context):
    admit(context, 'late_failure')
    yield b'first'
    context.set_trailing_metadata((('x-trailing', 'late'),))
    context.abort(grpc.StatusCode.DATA_LOSS, 'after the first')

def up(requests, context):
    admit(context, 'up')
    parts = list(requests)
    return b'%d %d' % (len(parts), sum(map(len, parts)))

def both(requests, context):
    admit(context, 'both')
    for request in requests:
        yield b'got ' + request

def wait(context, method):
    ended = threading.Event()
    context.add_callback(ended.set)
    ended.wait(30)
    tell(ended=method, cancelled=not context.is_active())

def slow(request, context):
    admit(context, 'slow')
    wait(context, 'slow')
    return b''

def slow_stream(request, context):
    admit(context, 'slow_stream')
    yield b'first'
    wait(context, 'slow_stream')

handlers = {
    'Unary': grpc.unary_unary_rpc_method_handler(unary),
    'Fail': grpc.unary_unary_rpc_method_handler(fail),
    'Slow': grpc.unary_unary_rpc_method_handler(slow),
    'Down': grpc.unary_stream_rpc_method_handler(down),
    'Flood': grpc.unary_stream_rpc_method_handler(flood),
    'LateFailure': grpc.unary_stream_rpc_method_handler(late_failure),
    'SlowStream': grpc.unary_stream_rpc_method_handler(slow_stream),
    'Up': grpc.stream_unary_rpc_method_handler(up),
    'Both': grpc.stream_stream_rpc_method_handler(both),
}
server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), options=[('grpc.max_receive_message_length', -1)])
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler('probe.Probe', handlers),))
read = lambda path: open(path, 'rb').read()
port = server.add_secure_port('127.0.0.1:0', grpc.ssl_server_credentials([(read(key), read(certificate))]))
server.start()
print('port %d' % port, flush=True)
server.wait_for_termination()
