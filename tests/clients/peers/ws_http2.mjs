// Extended CONNECT (RFC 8441) with Node's own http2; `session` is a connection inside the tunnel.
if (!session.remoteSettings.enableConnectProtocol) await new Promise(done => session.once('remoteSettings', done));
console.log(session.remoteSettings.enableConnectProtocol);
const open = path => new Promise((done, fail) => {
  const stream = session.request({':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'https', ':authority': 'api.example.com', ':path': path,
    'sec-websocket-version': '13', authorization: 'Bearer agents-own'}, {endStream: false});
  stream.on('response', head => done({stream, status: head[':status'], head})).on('error', fail);
});
const frame = text => { const body = Buffer.from(text), mask = Buffer.from([1, 2, 3, 4]); return Buffer.concat([Buffer.from([0x81, 0x80 | body.length]), mask, body.map((b, i) => b ^ mask[i % 4])]); };
const first = await open('/one'), second = await open('/two');
console.log(first.status, second.status, first.head['sec-websocket-accept']);
// Two WebSockets on one connection, each message after the answer to the last.
for (let round = 0; round < 20; round++) for (const {stream} of [first, second]) {
  const text = 'round ' + round;
  stream.write(frame(text));
  let seen = Buffer.alloc(0);
  while (seen.length < text.length + 2) seen = Buffer.concat([seen, await new Promise(done => stream.once('data', done))]);
  if (seen.subarray(2).toString() !== text) throw new Error(seen.toString());
}
const close = Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
const ended = Promise.all([first, second].map(({stream}) => new Promise(done => stream.on('end', done))));
for (const {stream} of [first, second]) stream.write(close);
await ended;
console.log('closed');
session.destroy();
