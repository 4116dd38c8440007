//! How many forks there have been: what a former generation holds is free. Zone: call.

use core::sync::atomic::{AtomicU32, Ordering};

/// How many forks lead from the loader's start to this process, plus one once hooks run; also read by `enter_asm`.
pub(super) static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The current generation.
#[must_use]
pub(crate) fn current() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Starts the generation `next`: what is busy in a former one is free from now on.
pub(crate) fn start(next: u32) {
    GENERATION.store(next, Ordering::Release);
}
