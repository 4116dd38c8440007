//! What every end-to-end test stands on: guests built once, commands run with a deadline, results compared.
//!
//! A test runs a command natively first: if that fails, the test is wrong, not the loader. Then the same command
//! runs under the loader, and both streams and the way it ended must agree. On failure everything is printed.
//!
//! `LOADER_UNDER_TEST` names another program to test in place of the built one; `null_loader.py` beside this file
//! runs its program natively, and so proves the tests themselves. `LOADER_TEST_OPTIONS` holds options for every run. `LOADER_REQUIRE_ALL=1` turns a skip into a failure, unless it is the kernel that
//! refuses.
#![allow(dead_code, reason = "each test binary uses its own part of the harness")]

pub(crate) mod guest;
pub(crate) mod run;
pub(crate) mod scratch;
pub(crate) mod summary;

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where tests and the programs they start look for programs: the distribution's own, no version managers.
pub(crate) const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin";

/// The program under test.
pub(crate) fn loader() -> PathBuf {
    env::var_os("LOADER_UNDER_TEST")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_loader")), PathBuf::from)
}

/// Whether the program under test is a stand-in, of which what only the real binary has can't be asked.
pub(crate) fn is_stand_in() -> bool {
    env::var_os("LOADER_UNDER_TEST").is_some()
}

/// Options that every loaded run gets besides its own: the words of `LOADER_TEST_OPTIONS`.
pub(crate) fn more_options() -> Vec<OsString> {
    let words = env::var("LOADER_TEST_OPTIONS").unwrap_or_default();
    words.split_whitespace().map(OsString::from).collect()
}

/// The package's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program called `name`: itself if it is a path, else the first on [`PATH`].
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.exists());
    }
    PATH.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.exists())
}

/// The program called `name`, or a skip that says that it is missing.
pub(crate) fn need_program(name: &str) -> Option<PathBuf> {
    let found = find_program(name);
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Says that a test, or a part of one, did not run, for want of what a package has. The caller returns right after.
pub(crate) fn skip(reason: &str) {
    assert!(
        env::var_os("LOADER_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "may not be skipped: {reason}"
    );
    refused(reason);
}

/// As [`skip`], where it is the kernel that refuses what the test needs natively, so that nothing could be installed.
pub(crate) fn refused(reason: &str) {
    static SKIPS: AtomicUsize = AtomicUsize::new(0);
    let count = SKIPS.fetch_add(1, Ordering::Relaxed) + 1;
    // Past libtest's capture, which would swallow the line of a test that passes.
    let _ = writeln!(std::io::stderr(), "skipped: {reason} ({count} in this test binary)");
}
