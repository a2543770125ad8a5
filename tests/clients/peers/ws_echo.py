# A WebSocket server of the library `websockets` that sends back what it gets. Arguments, for TLS: certificate, its key.
# It prints `port N`, then a JSON object for each connection: its fields, its extensions, how it was closed.
import asyncio, json, ssl, sys
from websockets.asyncio.server import serve

async def echo(socket):
    fields = {name.lower(): socket.request.headers.get_all(name) for name in socket.request.headers}
    extensions = [extension.name for extension in socket.protocol.extensions]
    try:
        async for message in socket:
            if message == 'close':
                await socket.close(4321, 'as asked')
            elif message == 'parts':
                await socket.send(iter(['one ', 'two ', 'three']))
            else:
                await socket.send(message)
    except Exception:
        pass
    await socket.wait_closed()
    print(json.dumps({'fields': fields, 'extensions': extensions, 'code': socket.close_code, 'reason': socket.close_reason}), flush=True)

async def main():
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*sys.argv[1:3])
        tls.set_alpn_protocols(['http/1.1'])
    async with serve(echo, '127.0.0.1', 0, ssl=tls, max_size=None, ping_interval=None) as server:
        print('port %d' % server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

asyncio.run(main())
