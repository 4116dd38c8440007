//! How many forks there have been: what a former generation holds is free. Zone: call.

use crate::runtime::gate::pool::POOL;
use core::sync::atomic::Ordering;

/// The current current.
#[must_use]
pub fn current() -> u32 {
    POOL.generation.load(Ordering::Relaxed)
}

/// Starts the current `next`: what is busy in a former one is free from now on.
pub fn start(next: u32) {
    POOL.generation.store(next, Ordering::Release);
}
