//! Builds OpenSSL's static libraries into a folder: Debian's 3.0 breaks mediasoup at the first DTLS flight.

fn main() {
    let out = std::env::args().nth(1).expect("usage: peer-openssl FOLDER");
    let target = env!("TARGET");
    let artifacts = openssl_src::Build::new().out_dir(out).host(target).target(target).build();
    println!("{}", artifacts.lib_dir().display());
}
