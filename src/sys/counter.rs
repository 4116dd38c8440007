//! Counters that are read at the end. Zone: call.

use core::sync::atomic::{AtomicU64, Ordering};

/// Adds one; counters are read at the end, so no order is needed.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
