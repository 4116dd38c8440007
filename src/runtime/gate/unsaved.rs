//! Where the loader's own assembly is in between: the program's registers are neither whole nor saved. Zone: call.
//!
//! A signal that interrupts there finds some of them packed, spilled or clobbered. Each such stretch of code is marked
//! where it stands, by [`unsaved!`], with a word that says what it is like there; the linker collects the words in one
//! table. Everywhere else in the loader a hook runs on a block, which has saved all.

use crate::addr::GuestAddr;

/// Starts a window in the text of assembly: the rest of the function is like this, up to the next mark.
macro_rules! unsaved {
    (nothing) => { unsaved!(@ "0") };
    (hooked_whole) => { unsaved!(@ "1") };
    (hooked_swapped) => { unsaved!(@ "2") };
    (hooked_packed_address) => { unsaved!(@ "3") };
    (hooked_packed_offset) => { unsaved!(@ "4") };
    (hooked_packed_index) => { unsaved!(@ "5") };
    (hooked_packed) => { unsaved!(@ "6") };
    (hooked_packed_taken) => { unsaved!(@ "6 + 256") };
    (hooked_packed_perhaps) => { unsaved!(@ "6 + 512") };
    (filter_rotated) => { unsaved!(@ "7") };
    (filter_added) => { unsaved!(@ "8") };
    (filter_swapped) => { unsaved!(@ "9") };
    (filter_whole) => { unsaved!(@ "10") };
    (filtered_whole) => { unsaved!(@ "11") };
    (filtered_swapped) => { unsaved!(@ "12") };
    (filtered_packed_address) => { unsaved!(@ "13") };
    (filtered_packed_offset) => { unsaved!(@ "14") };
    (filtered_packed_index) => { unsaved!(@ "15") };
    (filtered_packed) => { unsaved!(@ "16") };
    (filtered_packed_taken) => { unsaved!(@ "16 + 256") };
    (filtered_packed_perhaps) => { unsaved!(@ "16 + 512") };
    (returned_result) => { unsaved!(@ "17") };
    (returned_spilled) => { unsaved!(@ "18") };
    (returned_area) => { unsaved!(@ "19") };
    (returned_area_taken) => { unsaved!(@ "19 + 256") };
    (returned_area_perhaps) => { unsaved!(@ "19 + 512") };
    (split_start) => { unsaved!(@ "20") };
    (split) => { unsaved!(@ "21") };
    (leave_start) => { unsaved!(@ "22") };
    (leave) => { unsaved!(@ "23") };
    (left) => { unsaved!(@ "24") };
    (path_result) => { unsaved!(@ "25") };
    (path_swapped) => { unsaved!(@ "26") };
    (path_flags) => { unsaved!(@ "27") };
    (path_zero) => { unsaved!(@ "28") };
    (signalled) => { unsaved!(@ "29") };
    (signalled_taken) => { unsaved!(@ "29 + 256") };
    (signalled_perhaps) => { unsaved!(@ "29 + 512") };
    (hooked_masking) => { unsaved!(@ "30") };
    (filtered_masking) => { unsaved!(@ "31") };
    (returned_masking) => { unsaved!(@ "32") };
    (signalled_masking) => { unsaved!(@ "33") };
    (unmasking) => { unsaved!(@ "34") };
    (@ $word:literal) => {
        concat!(
            "990:\n",
            ".pushsection loader_unsaved,\"aR\",@progbits\n",
            ".long 990b - .\n",
            ".long ", $word, "\n",
            ".popsection\n",
        )
    };
}
pub(crate) use unsaved;

/// Whether a block has been taken in a window; it is the one at r11.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// None has.
    No,
    /// One has.
    Yes,
    /// One has if ecx is below the current generation.
    Perhaps,
}

/// What rcx holds of a stub, or of a dedicated slot's record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Index {
    /// Its address.
    Address,
    /// Its offset from the first.
    Offset,
    /// Its number.
    Number,
    /// Nothing: the number is in ax.
    InRax,
}

/// Where a value is that was in rax.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    /// In eax.
    Whole,
    /// In the upper half of rax, its bytes in reverse order.
    Swapped,
    /// In bits 16 to 47, its bytes in reverse order; above them the flags.
    Packed,
}

/// Where the arithmetic flags are, when a call is about to go through a dedicated slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flags {
    /// Where they belong.
    Live,
    /// OF in al, the others in ah.
    InAx,
    /// OF where it belongs, the others in ah.
    OverflowLive,
}

/// What is to be done on the block once signals are blocked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Masking {
    /// As [`Unsaved::Hooked`], packed.
    Hooked,
    /// As [`Unsaved::Filtered`], packed.
    Filtered,
    /// As [`Unsaved::ReturnedArea`].
    Returned,
    /// As [`Unsaved::Signalled`].
    Signalled,
}

/// What it is like in a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unsaved {
    /// A call that is not made yet comes from a stub.
    Hooked(Value, Index),
    /// It is about to be made in the dedicated slot whose code rcx points at.
    Filter(Value, Flags),
    /// A call has returned in a dedicated slot, and the hook is to see it.
    Filtered(Value, Index),
    /// A call has returned in a slot: the record's area is in rcx, the result in rax.
    ReturnedResult,
    /// The result is in the area.
    ReturnedSpilled,
    /// So are the flags, and the area is in rax.
    ReturnedArea,
    /// A call has returned that returns twice: the record is in rcx, the result in rax.
    SplitStart,
    /// The record is in r11.
    Split,
    /// A hook is done and has left all in the block at rbx.
    LeaveStart,
    /// In the block at r11.
    Leave,
    /// All is as the program will have it, rcx is where it goes on.
    Left,
    /// A filter looks at a call that has returned: the record is in rcx, the flags in r11, and the result here.
    Path(Value),
    /// As `Path`, the flags in eax and the result above them.
    PathFlags,
    /// As `Path`, and the result is 0.
    PathZero,
    /// A signal has just come for the handler whose entry is in rax.
    Signalled,
    /// The program's registers are in the block at rbp, and signals are about to be blocked.
    Masking(Masking),
    /// A hook is done and has left all in the block at rbp; signals are unblocked.
    Unmasking,
}

#[repr(C)]
struct Mark {
    /// From here to the first instruction.
    distance: i32,
    word: u32,
}

unsafe extern "C" {
    static __start_loader_unsaved: Mark;
    static __stop_loader_unsaved: Mark;
}

/// All marks.
fn marks() -> &'static [Mark] {
    let start = &raw const __start_loader_unsaved;
    let bytes = (&raw const __stop_loader_unsaved).addr() - start.addr();
    // SAFETY: the linker has put the marks of all files between the two symbols.
    unsafe { core::slice::from_raw_parts(start, bytes / size_of::<Mark>()) }
}

/// The window that `at` lies in, if any, and whether a block has been taken there.
#[must_use]
pub(crate) fn around(at: GuestAddr) -> Option<(Unsaved, Taken)> {
    let start = |mark: &Mark| {
        let distance = i64::from(mark.distance).cast_unsigned();
        GuestAddr((core::ptr::from_ref(mark).addr() as u64).wrapping_add(distance))
    };
    let before = marks().iter().map(|mark| (start(mark), mark.word)).filter(|(start, _)| *start <= at);
    let (_, word) = before.max()?;
    let taken = match word >> 8 {
        0 => Taken::No,
        1 => Taken::Yes,
        _ => Taken::Perhaps,
    };
    Some((window_of(word & 0xff)?, taken))
}

const fn window_of(number: u32) -> Option<Unsaved> {
    Some(match number {
        1 => Unsaved::Hooked(Value::Whole, Index::Address),
        2 => Unsaved::Hooked(Value::Swapped, Index::Address),
        3 => Unsaved::Hooked(Value::Packed, Index::Address),
        4 => Unsaved::Hooked(Value::Packed, Index::Offset),
        5 => Unsaved::Hooked(Value::Packed, Index::Number),
        6 => Unsaved::Hooked(Value::Packed, Index::InRax),
        7 => Unsaved::Filter(Value::Swapped, Flags::InAx),
        8 => Unsaved::Filter(Value::Swapped, Flags::OverflowLive),
        9 => Unsaved::Filter(Value::Swapped, Flags::Live),
        10 => Unsaved::Filter(Value::Whole, Flags::Live),
        11 => Unsaved::Filtered(Value::Whole, Index::Address),
        12 => Unsaved::Filtered(Value::Swapped, Index::Address),
        13 => Unsaved::Filtered(Value::Packed, Index::Address),
        14 => Unsaved::Filtered(Value::Packed, Index::Offset),
        15 => Unsaved::Filtered(Value::Packed, Index::Number),
        16 => Unsaved::Filtered(Value::Packed, Index::InRax),
        17 => Unsaved::ReturnedResult,
        18 => Unsaved::ReturnedSpilled,
        19 => Unsaved::ReturnedArea,
        20 => Unsaved::SplitStart,
        21 => Unsaved::Split,
        22 => Unsaved::LeaveStart,
        23 => Unsaved::Leave,
        24 => Unsaved::Left,
        25 => Unsaved::Path(Value::Whole),
        26 => Unsaved::Path(Value::Swapped),
        27 => Unsaved::PathFlags,
        28 => Unsaved::PathZero,
        29 => Unsaved::Signalled,
        30 => Unsaved::Masking(Masking::Hooked),
        31 => Unsaved::Masking(Masking::Filtered),
        32 => Unsaved::Masking(Masking::Returned),
        33 => Unsaved::Masking(Masking::Signalled),
        34 => Unsaved::Unmasking,
        _ => return None,
    })
}

/// CF, PF, AF, ZF and SF, as `lahf` and `sahf` carry them.
const LOW_FLAGS: u64 = 0xd5;
/// OF.
const OVERFLOW: u64 = 1 << 11;

impl Masking {
    /// What it is like with rax as it was spilled and the block at r11.
    #[must_use]
    pub(crate) const fn window(self) -> Unsaved {
        match self {
            Self::Hooked => Unsaved::Hooked(Value::Packed, Index::InRax),
            Self::Filtered => Unsaved::Filtered(Value::Packed, Index::InRax),
            Self::Returned => Unsaved::ReturnedArea,
            Self::Signalled => Unsaved::Signalled,
        }
    }
}

impl Value {
    /// The value, from rax.
    #[must_use]
    pub(crate) const fn of(self, rax: u64) -> u32 {
        match self {
            Self::Whole => rax as u32,
            Self::Swapped => ((rax >> 32) as u32).swap_bytes(),
            Self::Packed => ((rax >> 16) as u32).swap_bytes(),
        }
    }

    /// The flags, from rax and what the processor had.
    #[must_use]
    pub(crate) const fn flags(self, rax: u64, live: u64) -> u64 {
        match self {
            Self::Whole | Self::Swapped => live,
            Self::Packed => with_flags(live, (rax >> 48) as u8, (rax >> 56) as u8),
        }
    }
}

impl Flags {
    /// The flags, from rax and what the processor had.
    #[must_use]
    pub(crate) const fn of(self, rax: u64, live: u64) -> u64 {
        let overflow = if live & OVERFLOW != 0 { 1 } else { 0 };
        match self {
            Self::Live => live,
            Self::InAx => with_flags(live, rax as u8, (rax >> 8) as u8),
            Self::OverflowLive => with_flags(live, overflow, (rax >> 8) as u8),
        }
    }
}

/// `live` with OF from `overflow` and the others from `low`, as `seto` and `lahf` left them.
#[must_use]
pub(crate) const fn with_flags(live: u64, overflow: u8, low: u8) -> u64 {
    let overflow = if overflow & 1 != 0 { OVERFLOW } else { 0 };
    live & !(LOW_FLAGS | OVERFLOW) | overflow | low as u64 & LOW_FLAGS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::gate::enter_asm;
    use proptest::prelude::*;

    #[test]
    fn the_landings_begin_with_their_windows() {
        let at = |landing: unsafe extern "C" fn() -> !| around(GuestAddr(landing as *const () as u64));
        let whole = Unsaved::Hooked(Value::Whole, Index::Address);
        assert_eq!(at(enter_asm::hooked), Some((whole, Taken::No)));
        assert_eq!(at(enter_asm::returned), Some((Unsaved::ReturnedResult, Taken::No)));
        assert_eq!(at(enter_asm::returned_split), Some((Unsaved::SplitStart, Taken::No)));
        assert_eq!(at(enter_asm::signalled), Some((Unsaved::Signalled, Taken::No)));
    }

    #[test]
    fn a_function_in_rust_is_no_window() {
        assert_eq!(around(GuestAddr(window_of as *const () as u64)), None);
    }

    proptest! {
        #[test]
        fn a_packed_number_and_its_flags_are_found_again(nr in any::<u32>(), index in any::<u16>(), flags in any::<u64>()) {
            let live = flags & (LOW_FLAGS | OVERFLOW);
            let overflow = u64::from(live & OVERFLOW != 0);
            // `bswap rax; lahf; seto al; ror rax, 16; mov ax, cx`.
            let swapped = u64::from(nr).swap_bytes() | (live & LOW_FLAGS) << 8 | overflow;
            let packed = swapped.rotate_right(16) & !0xffff | u64::from(index);
            prop_assert_eq!(Value::Swapped.of(swapped), nr);
            prop_assert_eq!(Value::Packed.of(packed), nr);
            prop_assert_eq!(Value::Packed.flags(packed, 0), live);
            prop_assert_eq!(Flags::InAx.of(packed.rotate_left(16), 0), live);
            prop_assert_eq!(Flags::OverflowLive.of(packed.rotate_left(16), live & OVERFLOW), live);
        }
    }
}
