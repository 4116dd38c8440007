//! Directories of one test each, gone when it passes and kept when it fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// An empty directory that nobody else uses.
pub(crate) struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// Makes one; `name` only serves whoever looks at it after a failure.
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = base().join(format!("{name}.{}.{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("the scratch directory can be made");
        Self { dir }
    }

    /// The directory itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of `name` inside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file inside with these permission bits, and gives its path.
    pub(crate) fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(name);
        fs::write(&path, content).expect("the scratch directory is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a new file's mode can be set");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Where everything that tests write lives: Cargo's own directory for it.
pub(crate) fn base() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
