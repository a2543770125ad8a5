const fs = require("fs"), net = require("net"), tls = require("tls");

const [caFile, ...pairs] = process.argv.slice(2);
const ca = fs.readFileSync(caFile);
const one = (pair) => new Promise((done, fail) => {
  const at = pair.lastIndexOf("="), name = pair.slice(0, at), port = Number(pair.slice(at + 1));
  const options = { host: "127.0.0.1", port, ca, servername: net.isIP(name) ? "" : name };
  options.checkServerIdentity = (_, cert) => tls.checkServerIdentity(name, cert);
  const socket = tls.connect(options, () => socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  let text = "";
  socket.on("data", (d) => (text += d));
  socket.on("error", (e) => fail(new Error(`${name}: ${e.message}`)));
  socket.on("end", () => (text.startsWith("HTTP/1.1 200") ? done() : fail(new Error(`${name}: ${text}`))));
});
(async () => { for (const pair of pairs) await one(pair); })().catch((e) => { console.error(e); process.exit(1); });
