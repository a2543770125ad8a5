import socket, ssl, sys

ca, pairs = sys.argv[1], sys.argv[2:]
context = ssl.create_default_context(cafile=ca)
context.verify_flags |= ssl.VERIFY_X509_STRICT
if hasattr(ssl, "VERIFY_X509_PARTIAL_CHAIN"):
    context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
for pair in pairs:
    name, port = pair.rsplit("=", 1)
    with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as tcp:
        with context.wrap_socket(tcp, server_hostname=name) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert tls.recv(12) == b"HTTP/1.1 200", name
