# Starts the Autobahn test suite, which is Python 2. Arguments: the directory of its packages, then those of `wstest`.
import site, sys, types, unittest
site.addsitedir(sys.argv.pop(1))
# It imports TLS, which these tests do outside of it, and a test library for a mode that is not used.
ssl = types.ModuleType('twisted.internet.ssl')
ssl.ClientContextFactory = lambda: None
sys.modules['twisted.internet.ssl'] = ssl
sys.modules['unittest2'] = unittest
import twisted.internet
twisted.internet.ssl = ssl
import txaio
txaio.use_twisted()
from autobahntestsuite import wstest
wstest.run()
