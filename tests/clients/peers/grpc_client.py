# A gRPC client for the tests; the argument names the case. What it prints is compared by the test.
import concurrent.futures, queue, sys
import grpc

channel = grpc.secure_channel('api.example.com:443', grpc.ssl_channel_credentials(), options=[('grpc.max_receive_message_length', -1)])
name = lambda method: '/probe.Probe/' + method
own = (('authorization', 'Bearer agents-own'), ('x-title', 'My app'), ('x-raw-bin', b'\x00\xfe'))
LIMIT = 20

def show(error):
    trailing = [v for k, v in error.trailing_metadata() if k == 'x-trailing']
    print(error.code().name, error.details(), *trailing)

def unary():
    answer, call = channel.unary_unary(name('Unary')).with_call(b'hello', timeout=LIMIT, metadata=own)
    print(answer.decode(), [v for k, v in call.initial_metadata() if k == 'x-initial'],
          [(k, v) for k, v in call.trailing_metadata() if k.startswith('x-')], call.code().name)
    print(len(channel.unary_unary(name('Unary'))(b'', timeout=LIMIT)))

def large():
    body = bytes(range(256)) * (4 << 12)
    print(channel.unary_unary(name('Unary'))(body, timeout=LIMIT) == body, len(body))

def gzip():
    body = b'the same again ' * 10000
    print(channel.unary_unary(name('Unary'))(body, timeout=LIMIT, compression=grpc.Compression.Gzip) == body)

def fail():
    for method in ('Fail', 'NoSuchMethod'):
        try:
            channel.unary_unary(name(method))(b'', timeout=LIMIT)
        except grpc.RpcError as error:
            show(error)

def down():
    print([int(part) for part in channel.unary_stream(name('Down'))(b'1000', timeout=LIMIT, metadata=own)] == list(range(1000)))

def late_failure():
    try:
        for part in channel.unary_stream(name('LateFailure'))(b'', timeout=LIMIT):
            print(part.decode())
    except grpc.RpcError as error:
        show(error)

def up():
    print(channel.stream_unary(name('Up'))((bytes(n) for n in range(1000)), timeout=LIMIT, metadata=own).decode())
    print(channel.stream_unary(name('Up'))(iter(()), timeout=LIMIT).decode())

def conversation(rounds):
    # The next is sent only after the answer to the last has come.
    ready = queue.Queue()
    answers = channel.stream_stream(name('Both'))(iter(ready.get, None), timeout=LIMIT, metadata=own)
    for number in range(rounds):
        ready.put(b'%d' % number)
        if next(answers) != b'got %d' % number:
            return False
    ready.put(None)
    return next(answers, None) is None and answers.code() is grpc.StatusCode.OK

def both():
    print(conversation(100))

def many():
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        print(all(pool.map(conversation, [20] * 50)))

def beside_an_unread_stream():
    flood = channel.unary_stream(name('Flood'))(b'', timeout=LIMIT)
    next(flood)
    print(all(channel.unary_unary(name('Unary'))(b'x' * 9999, timeout=LIMIT) == b'x' * 9999 for _ in range(20)))
    flood.cancel()

def deadline():
    try:
        channel.unary_unary(name('Slow'))(b'', timeout=1)
    except grpc.RpcError as error:
        print(error.code().name)

def cancel():
    stream = channel.unary_stream(name('SlowStream'))(b'', timeout=LIMIT)
    print(next(stream).decode())
    stream.cancel()
    print(stream.code().name)
    # Only a channel that goes on shows that the one call was reset, and not the connection closed.
    print(channel.unary_unary(name('Unary'))(b'still here', timeout=LIMIT).decode())

globals()[sys.argv[1]]()
