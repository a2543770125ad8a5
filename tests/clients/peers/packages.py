# Makes one tiny package of each kind in the directory given, as the registries of pip, npm and cargo hold them.
import hashlib, io, os, sys, tarfile, zipfile

out = sys.argv[1]

def tar(name, files):
    with tarfile.open(os.path.join(out, name), 'w:gz') as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))

dist = 'probe-1.0.0.dist-info'
with zipfile.ZipFile(os.path.join(out, 'probe.whl'), 'w') as wheel:
    wheel.writestr('probe.py', 'answer = 42\n')
    wheel.writestr(dist + '/METADATA', 'Metadata-Version: 2.1\nName: probe\nVersion: 1.0.0\n')
    wheel.writestr(dist + '/WHEEL', 'Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
    wheel.writestr(dist + '/RECORD', 'probe.py,,\n%s/METADATA,,\n%s/WHEEL,,\n%s/RECORD,,\n' % (dist, dist, dist))
tar('probe.tgz', {'package/package.json': '{"name":"probe","version":"1.0.0"}', 'package/index.js': 'module.exports = 42\n'})
tar('probe.crate', {'probe-1.0.0/Cargo.toml': '[package]\nname = "probe"\nversion = "1.0.0"\nedition = "2021"\n',
                    'probe-1.0.0/src/lib.rs': 'pub const ANSWER: u32 = 42;\n'})
for name, kind in [('probe.whl', 'sha256'), ('probe.tgz', 'sha1'), ('probe.crate', 'sha256')]:
    with open(os.path.join(out, name), 'rb') as file:
        print(hashlib.new(kind, file.read()).hexdigest())
