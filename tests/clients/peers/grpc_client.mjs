// The same calls with grpc-js; `grpc` is the module.
const client = new grpc.Client('api.example.com:443', grpc.credentials.createSsl());
const path = method => '/probe.Probe/' + method;
const same = value => value;
const own = new grpc.Metadata();
own.set('authorization', 'Bearer agents-own');
const deadline = () => ({deadline: Date.now() + 20000});
const ended = call => new Promise(done => { call.on('status', done); call.on('error', () => {}); });

await new Promise(done => {
  let trailing;
  client.makeUnaryRequest(path('Unary'), same, same, Buffer.from('hello'), own, deadline(), (error, answer) => {
    console.log(error?.message ?? answer.toString());
    setImmediate(() => { console.log(trailing); done(); });
  }).on('status', status => { trailing = status.metadata.get('x-trailing').join(); });
});
await new Promise(done => client.makeUnaryRequest(path('Fail'), same, same, Buffer.alloc(0), own, deadline(), error => {
  console.log(error.code, error.details, error.metadata.get('x-trailing').join());
  done();
}));
const down = client.makeServerStreamRequest(path('Down'), same, same, Buffer.from('500'), own, deadline());
let seen = 0;
down.on('data', part => { if (Number(part) === seen) seen++; });
console.log((await ended(down)).code, seen);
await new Promise(done => {
  const up = client.makeClientStreamRequest(path('Up'), same, same, own, deadline(), (error, answer) => { console.log(error?.message ?? answer.toString()); done(); });
  for (let n = 0; n < 500; n++) up.write(Buffer.alloc(n));
  up.end();
});
const both = client.makeBidiStreamRequest(path('Both'), same, same, own, deadline());
let round = 0;
both.on('data', part => {
  if (part.toString() !== 'got ' + round) throw new Error(part.toString());
  if (++round < 100) both.write(Buffer.from(String(round))); else both.end();
});
both.write(Buffer.from('0'));
console.log((await ended(both)).code, round);
const slow = client.makeServerStreamRequest(path('SlowStream'), same, same, Buffer.alloc(0), own, deadline());
slow.on('data', () => slow.cancel());
console.log((await ended(slow)).code);
client.close();
