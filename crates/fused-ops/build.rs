//! A digest of the GPU kernels' sources: compiled kernels are kept on disk by it, because CubeCL's own key does not hold what a
//! kernel does.

use std::path::Path;

fn main() {
    // FNV-1a, over the files in the order of their names.
    let mut digest = 0xcbf2_9ce4_8422_2325u64;
    for folder in ["src/cube", "src/cuda"] {
        println!("cargo:rerun-if-changed={folder}");
        let mut files: Vec<_> =
            std::fs::read_dir(Path::new(folder)).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            for byte in std::fs::read(&file).unwrap_or_default() {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    println!("cargo:rustc-env=FUSED_OPS_KERNELS={digest:016x}");
}
