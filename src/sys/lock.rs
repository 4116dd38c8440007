//! The one door to `spin`. Zone: load.
//!
//! Taken only while the loader maps or patches, with all signals blocked, so that no handler can meet it held.

pub use spin::mutex::{SpinMutex as Lock, SpinMutexGuard as Guard};
