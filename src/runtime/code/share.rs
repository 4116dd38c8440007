//! How much of a table that all modules share one of them may take. Zone: call.
//!
//! Stubs, traps and known ranges are tables of fixed size. A module with very many sites must not leave nothing for those that
//! are mapped after it, or its refusals would become theirs.

/// The part of a table, one in this many, that large requests leave free.
const KEPT: usize = 8;

/// How much of a table with `capacity` entries, `free` of them unused, a module gets that wants `wanted`. A small request
/// is granted as long as there is room; a large one leaves an eighth of the table to others.
pub(super) const fn granted(wanted: usize, free: usize, capacity: usize) -> usize {
    let kept = capacity / KEPT;
    let limit = if wanted <= kept { free } else { free.saturating_sub(kept) };
    if wanted < limit { wanted } else { limit }
}

/// Whether more than what is kept for small requests is free.
pub(super) const fn leaves_some(free: usize, capacity: usize) -> bool {
    free > capacity / KEPT
}

/// Whether a module gets all that it wants.
pub(super) const fn is_granted(wanted: usize, free: usize, capacity: usize) -> bool {
    granted(wanted, free, capacity) == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_request_leaves_an_eighth_to_small_ones() {
        assert_eq!(granted(60, 100, 100), 60);
        assert_eq!(granted(95, 100, 100), 88);
        assert_eq!(granted(60, 40, 100), 28);
        assert_eq!(granted(20, 12, 100), 0);
        assert_eq!((granted(12, 12, 100), granted(12, 5, 100)), (12, 5));
        assert!(is_granted(12, 12, 100) && !is_granted(13, 13, 100));
    }
}
