# A client of the library `websockets`, with the proxy and the CA of its environment. It prints what the test compares.
import asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

URL = 'wss://api.example.com/socket?a=1'
OWN = {'Authorization': 'Bearer agents-own', 'X-Title': 'My app'}

async def main():
    async with connect(URL, additional_headers=OWN, max_size=None) as socket:
        print([extension.name for extension in socket.protocol.extensions])
        latency = await asyncio.wait_for(await socket.ping(b'are you there'), 10)
        print(latency >= 0)
        await socket.send('Grüße ☃ ' * 1000)
        print(await socket.recv() == 'Grüße ☃ ' * 1000)
        body = bytes(range(256)) * 8192
        await socket.send(body)
        print(await socket.recv() == body)
        await socket.send(iter(['from ', 'three ', 'fragments']))
        print(await socket.recv())
        await socket.send('parts')
        print([part async for part in socket.recv_streaming()])
        await socket.close(3999, 'enough')
        print(socket.close_code)
    async with connect(URL, compression=None, additional_headers=OWN) as socket:
        print([extension.name for extension in socket.protocol.extensions])
        await socket.send('close')
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            print(closed.rcvd.code, closed.rcvd.reason)

asyncio.run(main())
