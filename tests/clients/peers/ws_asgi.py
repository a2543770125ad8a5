# A WebSocket server on hypercorn, which takes extended CONNECT (RFC 8441). Arguments: certificate, its key, the value that
# it demands. It prints `port N`, then a JSON object for each WebSocket.
import asyncio, json, socket, sys
from hypercorn.asyncio import serve
from hypercorn.config import Config

async def app(scope, receive, send):
    if scope['type'] != 'websocket':
        return
    await receive()
    shown = [value.decode() for name, value in scope['headers'] if name == b'authorization']
    print(json.dumps({'version': scope['http_version'], 'authorization': shown, 'path': scope['path']}), flush=True)
    if shown != [sys.argv[3]]:
        return await send({'type': 'websocket.close'})
    await send({'type': 'websocket.accept'})
    while (event := await receive())['type'] == 'websocket.receive':
        await send({'type': 'websocket.send', 'text': event.get('text'), 'bytes': event.get('bytes')})

async def main():
    config = Config()
    config.certfile, config.keyfile = sys.argv[1:3]
    config.alpn_protocols = ['h2', 'http/1.1']
    # It leaves the stream open after a client's close frame; only the end of an idle connection ends that.
    config.keep_alive_timeout = 1
    listener = socket.create_server(('127.0.0.1', 0))
    config.bind = ['fd://%d' % listener.fileno()]
    print('port %d' % listener.getsockname()[1], flush=True)
    await serve(app, config)

asyncio.run(main())
