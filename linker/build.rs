//! Link flags of the freestanding binary; tests and benches link as usual.

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=linker/gate.ld");
    println!("cargo:rerun-if-changed=linker/build.rs");
    for flag in [
        "-nostartfiles",
        "-nostdlib",
        "-static-pie",
        "-Wl,--no-dynamic-linker",
        "-Wl,--build-id",
        "-Wl,--gc-sections",
        "-Wl,-z,norelro",
        "-Wl,--export-dynamic-symbol=r_debug_state",
    ] {
        println!("cargo:rustc-link-arg-bins={flag}");
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{dir}/linker/gate.ld");
}
