//! Compiles the gRPC service without a `protoc` on the machine: the server's side for this crate, the client's for its
//! tests, and the descriptors that reflection tells.

use std::{env, fs, path::Path};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);
    let descriptors = protox::compile(["proto/carillon/v1/publish.proto"], ["proto"])?;
    fs::write(out.join("publish.bin"), descriptors.encode_to_vec())?;
    let client = out.join("client");
    fs::create_dir_all(&client)?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .out_dir(&client)
        .compile_fds(descriptors.clone())?;
    tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
