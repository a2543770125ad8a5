# A client of the library `websockets` that runs the cases of a fuzzing server. Arguments: the server, an agent's name.
import asyncio, sys, urllib.parse
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

server, agent = sys.argv[1:3]

async def run(path):
    async with connect(server + path, max_size=None, ping_interval=None) as socket:
        async for message in socket:
            await socket.send(message)

async def main():
    async with connect(server + '/getCaseCount') as socket:
        count = int(await socket.recv())
    for case in range(1, count + 1):
        try:
            await run('/runCase?case=%d&agent=%s' % (case, agent))
        except (WebSocketException, EOFError, OSError):
            pass
    async with connect(server + '/updateReports?agent=' + agent) as socket:
        await socket.wait_closed()
    print(count)

asyncio.run(main())
