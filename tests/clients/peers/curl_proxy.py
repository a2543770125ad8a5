# libcurl with a proxy over TLS. Arguments: the proxy's URL, the version to speak with it (1 or 2), with the origin, the
# URL. It prints the status, the origin's version and the body, then how the tunnel was made.
import io, os, re, sys
from curl_cffi import Curl, CurlInfo, CurlOpt

proxy, proxy_version, version, url = sys.argv[1:5]
curl, body, log = Curl(), io.BytesIO(), []
authorities = os.environ['CURL_CA_BUNDLE'].encode()
for option, value in [
    (CurlOpt.URL, url.encode()), (CurlOpt.PROXY, proxy.encode()), (CurlOpt.PROXYTYPE, 3 if proxy_version == '2' else 2),
    (CurlOpt.CAINFO, authorities), (CurlOpt.PROXY_CAINFO, authorities), (CurlOpt.HTTP_VERSION, 4 if version == '2' else 2),
    (CurlOpt.WRITEDATA, body), (CurlOpt.TIMEOUT, 20), (CurlOpt.VERBOSE, 1),
    (CurlOpt.POSTFIELDS, b'hello'), (CurlOpt.HTTPHEADER, [b'Authorization: Bearer agents-own']),
]:
    curl.setopt(option, value)
curl.perform()
print(curl.getinfo(CurlInfo.RESPONSE_CODE), {2: '1', 3: '2'}[curl.getinfo(CurlInfo.HTTP_VERSION)], body.getvalue().decode())
