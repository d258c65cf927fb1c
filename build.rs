//! Compiles the interface descriptions without needing `protoc`.

use std::error::Error;
use std::path::PathBuf;

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let public = protox::compile(["homeward/v1/homeward.proto"], ["proto"])?;
    // Reflection serves the public descriptions only.
    std::fs::write(out.join("homeward.v1.bin"), public.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(public)?;
    let store = protox::compile(["homeward/store/v1/recipients.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_client(false)
        .bytes(".homeward.store.v1.Head")
        .compile_fds(store)?;
    Ok(())
}
