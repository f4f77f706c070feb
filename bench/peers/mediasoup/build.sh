#!/usr/bin/env bash
# mediasoup: its Node module from npm, and its worker built from the source that npm brings, with
# Debian's libraries in place of the downloads that its build would make.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need node npm python3 ninja g++ cargo
here=$PEERS_DIR/mediasoup
cd "$OUT"

cp "$PEERS_DIR/lines.mjs" "$here"/package*.json "$here"/adapter.mjs .
# A worker that is there already keeps the install script from getting one.
MEDIASOUP_WORKER_BIN=$OUT/mediasoup-worker npm ci --no-audit --no-fund

unpack unpacked libabsl-dev libflatbuffers-dev flatbuffers-compiler libflatbuffers2 libuv1-dev \
  libusrsctp-dev liburing-dev
mkdir debian
ln -s ../unpacked/usr/include debian/include
ln -s "../unpacked/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch)" debian/lib
mkdir bin
printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$OUT/debian/lib" "$OUT/unpacked/usr/bin/flatc" >bin/flatc
chmod +x bin/flatc

CARGO_TARGET_DIR=$OUT/openssl-target cargo run --locked --quiet \
  --manifest-path "$here/openssl/Cargo.toml" -- "$OUT/openssl-build"
ln -s openssl-build/install openssl

# Debian builds libsrtp on NSS; mediasoup has it on OpenSSL.
unpack_source libsrtp libsrtp2 2.5.0
mkdir -p libsrtp/shim/srtp2
cp libsrtp/include/*.h libsrtp/crypto/include/*.h libsrtp/shim/srtp2
(
  cd libsrtp
  PKG_CONFIG_PATH=$OUT/openssl/lib/pkgconfig ./configure --enable-openssl CFLAGS="-O3 -fPIC"
  make libsrtp2.a
)

python3 -m pip install --quiet --disable-pip-version-check --target meson meson==1.7.2
cp -r node_modules/mediasoup/worker worker
rm -r worker/subprojects
cp -r "$here/subprojects" worker/subprojects
export PATH=$OUT/bin:$PATH PYTHONPATH=$OUT/meson
meson() { python3 -m mesonbuild.mesonmain "$@"; }
meson setup build worker --prefix "$OUT" --buildtype release -Db_ndebug=true
# What includes the generated headers does not say that it needs them.
ninja -C build fbs/FBS
ninja -C build mediasoup-worker
mv build/mediasoup-worker mediasoup-worker
rm -rf build worker libsrtp openssl-target openssl-build openssl unpacked debian meson bin
