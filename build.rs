//! Start-up time is part of the product, so the release binary is linked to be loaded fast: at a fixed address (no
//! relocations at every start), and with the C compiler's unwinder linked in instead of looked up. Where the compiler
//! has no static one, it is looked up as usual.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if !(is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && is("PROFILE", "release")) {
        return;
    }
    println!("cargo::rustc-link-arg-bins=-no-pie");
    let Some(out) = std::env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    // A linker script under the name of the shared library is found first and names the static one.
    if redirect(&out.join("libgcc_s.so"), "libgcc_eh.a").is_some() {
        println!("cargo::rustc-link-search=native={}", out.display());
    }
}

/// Writes the script if the compiler has the archive.
fn redirect(script: &Path, archive: &str) -> Option<()> {
    // Cross-compiling: the host's compiler says nothing about the target's libraries.
    if std::env::var("HOST").ok()? != std::env::var("TARGET").ok()? {
        return None;
    }
    let printed = Command::new("cc").arg(format!("-print-file-name={archive}")).output().ok()?;
    let path = PathBuf::from(String::from_utf8(printed.stdout).ok()?.trim());
    // A compiler without it prints the bare name.
    let plain = path.to_str()?.bytes().all(|byte| byte.is_ascii_graphic());
    (path.is_absolute() && path.exists() && plain).then_some(())?;
    std::fs::write(script, format!("INPUT({})\n", path.display())).ok()
}
